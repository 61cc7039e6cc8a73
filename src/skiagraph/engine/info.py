"""What a model is made of: parameters, multiply-adds and FLOPs per component, for one image."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn

from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.models.cost import ComponentCost, component_cost
from skiagraph.models.latent_segmenter import LatentSegmenter
from skiagraph.models.registry import USES, kind_of, load_component, model_folder
from skiagraph.models.segmenter import Segmenter
from skiagraph.models.uvit import UViT2DModel
from skiagraph.pipelines.published import load_pipeline
from skiagraph.pipelines.text_to_image import TextToImagePipeline

CONVENTION = "1 multiply-add = 1 MAC = 2 FLOPs; the denoiser once per step and guidance branch"


def describe(name_or_folder: str) -> dict[str, Any]:
    """What a shipped model or a model folder can do, and the cost of every component.

    Returns:
        `model`, its `class`, the `verbs` that take it, `size` (pixels of a side) and `colour` of its pictures,
        `convention`, and `components`: rows of name, class, parameters, macs and flops.

    Raises:
        ModelError: no such model, or a damaged one.
    """
    folder = model_folder(name_or_folder)
    if (folder / "model_index.json").is_file():
        pipeline = load_pipeline(folder)
        size, colour, costs = pipeline.image_side, pipeline.config.colour, _pipeline_costs(pipeline)
    else:
        network = load_component(folder)
        size, colour, costs = _size(network), network.config.get("in_channels", 1) == 3, _network_costs(network)
    rows = [
        {"name": c.name, "class": k, "parameters": c.parameters, "macs": c.macs, "flops": c.flops} for k, c in costs
    ]
    kind = kind_of(folder)
    return {
        "model": str(name_or_folder), "class": kind, "verbs": list(USES.get(kind, ())), "size": size,
        "colour": bool(colour), "convention": CONVENTION, "components": rows,
    }  # fmt: skip


def _pipeline_costs(pipeline: TextToImagePipeline) -> list[tuple[str, ComponentCost]]:
    c, vae, drawing = pipeline.denoiser.config, pipeline.vae, pipeline.perceptual_vae
    noisy, latent = (
        torch.zeros(1, channels, c.sample_size, c.sample_size)
        for channels in (c.in_channels, vae.config.latent_channels)
    )
    text = pipeline.encode_prompts([""])
    image = vae.decode(latent).sample
    encoders = {name: part for name, part in pipeline.components.items() if name.startswith("text_encoder")}
    rows = [
        *((name, encoder, (text.input_ids,)) for name, encoder in encoders.items()),
        ("denoiser", _Call(pipeline.denoiser, lambda x: pipeline.predict(x, torch.tensor(1), text)), (noisy,)),
        ("vae.decode", _Call(vae, vae.decode), (latent,)),
        ("vae.encode", _Call(vae, vae.encode), (image,)),
        *([("perceptual_vae.decode", _Call(drawing, drawing.decode), (latent,))] if drawing else []),
        *([("enlarger", pipeline.enlarger, (image,))] if pipeline.enlarger else []),
    ]
    return [
        (type(getattr(module, "owner", module)).__name__, component_cost(name, module, *inputs))
        for name, module, inputs in rows
    ]


def _network_costs(network: nn.Module) -> list[tuple[str, ComponentCost]]:
    """Of one image at the size that the network works at; a segmenter's are of all that it takes to a mask."""
    c, size = network.config, _size(network)
    image = torch.zeros(1, c.get("in_channels", 1), size, size)
    if isinstance(network, Segmenter | LatentSegmenter):
        rows = [("segment", _Call(network, network.scores), (image,))]
    elif isinstance(network, AutoencoderKL | SmallAutoencoderKL):
        latent = network.encode(image).latent_dist.mode()
        rows = [
            ("encode", _Call(network, network.encode), (image,)),
            ("decode", _Call(network, network.decode), (latent,)),
        ]
    elif isinstance(network, UViT2DModel):
        rows = [("denoiser", network, (image, torch.tensor(1), torch.zeros(1, c.text_tokens, c.text_dim)))]
    else:
        rows = [("network", network, (image,))]
    return [(type(network).__name__, component_cost(name, module, *inputs)) for name, module, inputs in rows]


def _size(network: nn.Module) -> int:
    return network.config.get("working_size") or network.config.get("sample_size") or 256


class _Call(nn.Module):
    """One method of a network as a module, so that it can be measured alone."""

    def __init__(self, owner: nn.Module, method: Any) -> None:
        super().__init__()
        self.owner, self.method = owner, method

    def forward(self, *inputs: Any) -> Any:
        return self.method(*inputs)
