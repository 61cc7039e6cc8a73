"""Images together with where their words look: the first half of arXiv 2503.07209, for any text-to-image pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline

from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.heatmaps import capture_words, word_spans
from skiagraph.devices import seeded, usable_device
from skiagraph.domains.domain import Domain, load_domain
from skiagraph.errors import ModelError
from skiagraph.models.registry import DEFAULT_MODEL, loading, model_folder, require_kind
from skiagraph.models.words import own_length
from skiagraph.pipelines.text_to_image import TextToImagePipeline, with_words

FOREIGN = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Diffusers pipelines whose folders can be used as they are."""

NOISE = (0.3, 0.75)
"""Shares of the noise schedule between which words point best: earlier there is no shape yet, later only detail."""


@dataclass(frozen=True)
class ImagesWithMaps:
    """Images float32 (n, H, W) and heat maps float32 (n, classes, H, W), all in [0, 1], and the prompts as encoded."""

    images: np.ndarray
    heats: np.ndarray
    prompts: list[str]


def load_generator(
    name_or_folder: str | Path = DEFAULT_MODEL, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> DiffusionPipeline:
    """What `sample_with_maps` draws with: a shipped model by name, or a local folder, our own or one of `FOREIGN`.

    Raises:
        ModelError: no such model or device, one of another kind or whose tokenizer has no length, or missing or damaged
            files; nothing is downloaded.
    """
    place, folder = usable_device(device), model_folder(name_or_folder)
    kind = require_kind(folder, TextToImagePipeline.__name__, *FOREIGN, purpose="make images from text")
    if kind == TextToImagePipeline.__name__:
        return TextToImagePipeline.load(folder, dtype=dtype, device=device)
    # The checker of everyday photographs takes radiographs for nudity and blackens them.
    unchecked = {"safety_checker": None, "requires_safety_checker": False} if kind == FOREIGN[0] else {}
    with loading(folder):
        pipeline = getattr(diffusers, kind).from_pretrained(
            folder, torch_dtype=dtype, local_files_only=True, use_safetensors=True, **unchecked
        )
    own_length(pipeline.tokenizer)
    return pipeline.to(place)


def domain_of(pipeline: DiffusionPipeline) -> Domain:
    """What a pipeline's pictures are of; other people's are taken for the chest's."""
    return pipeline.domain if isinstance(pipeline, TextToImagePipeline) else load_domain("chest")


def sample_with_maps(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str],
    classes: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int = 30,
    guidance: float = 2.0,
    layers: Sequence[str] | None = None,
    noise: tuple[float, float] = NOISE,
) -> ImagesWithMaps:
    """Generate one image per prompt, and of each class a heat map: the maximum of its words' maps.

    Args:
        pipeline: a `TextToImagePipeline`, or a diffusers pipeline with `unet` and `tokenizer`, as Stable Diffusion's.
        prompts: one per image. The words of the domain's classes are put in front where they are missing.
        classes: names; see `Domain.class_words`.
        seeds: one per image.
        steps: denoising steps.
        guidance: guidance scale.
        layers: attention layers to read; by default the middle block of a U-ViT, and all cross-attention of a U-Net.
        noise: average only the steps between these two shares of the noise schedule; (0, 1), all of them, is what
            DiffuMask and the paper do.

    Raises:
        ModelError: a class whose word a prompt lacks or loses to truncation, a model without attention to text, or
            so few steps that none is at such noise.
    """
    known = domain_of(pipeline).class_words
    words = [known.get(name, (name,)) for name in classes]
    named = list(dict.fromkeys(w for name in classes for w in known.get(name, ())))
    generators = [seeded(int(seed)) for seed in seeds]
    settings = {"num_inference_steps": steps, "guidance_scale": guidance, "generator": generators, "output_type": "np"}
    flat = [word for group in words for word in group]
    if isinstance(pipeline, TextToImagePipeline):
        denoiser, length = pipeline.denoiser, pipeline.config.prompt_length
        encoded = [with_words(p, named) for p in pipeline.in_model_words(list(prompts))]
        settings["naming"] = named
    else:
        if not (hasattr(pipeline, "unet") and hasattr(pipeline, "tokenizer")):
            raise ModelError(f"{type(pipeline).__name__} has no `unet` and `tokenizer`; it does not read text")
        denoiser, length = pipeline.unet, own_length(pipeline.tokenizer)
        prompts = encoded = [with_words(p, named) for p in prompts]
    spans = word_spans(pipeline.tokenizer, encoded, [flat] * len(encoded), length)
    layers = adapter_of(denoiser).pointing if layers is None else layers
    levels = pipeline.scheduler.config.num_train_timesteps
    window = noise[0] * levels, noise[1] * levels
    with torch.no_grad(), capture_words(denoiser, spans, layers, timesteps=window) as maps:
        images = _grey(np.asarray(pipeline(list(prompts), **settings).images, np.float32))
    found = maps.combined(images.shape[1:]).clamp(0, 1).cpu().numpy()
    ends = np.cumsum([len(group) for group in words])
    heats = np.stack([part.max(axis=1) for part in np.split(found, ends[:-1], axis=1)], axis=1)
    return ImagesWithMaps(images=images, heats=heats, prompts=encoded)


def _grey(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=-1) if images.ndim == 4 else images
