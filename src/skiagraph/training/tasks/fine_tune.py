"""Fine-tuning of a published Stable Diffusion on one's own radiographs: by LoRA (arXiv 2106.09685), or all weights."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import cast_training_params
from diffusers.utils import convert_state_dict_to_diffusers
from torch import Generator, Tensor, nn

from skiagraph.data.datasets import Record
from skiagraph.data.images import read_planes, square
from skiagraph.devices import fast_bfloat16
from skiagraph.domains.domain import DEFAULT, load_domain
from skiagraph.errors import RecipeError
from skiagraph.models.registry import model_folder, require_kind
from skiagraph.pipelines.published import adopt, load_published
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.training.images import random_indices, record_weight, records_of
from skiagraph.training.recipe import FineTuneRecipe, LoraConfig
from skiagraph.training.tasks.text_to_image import VALIDATION_TIMESTEPS, denoising_error

TUNED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Pipelines that are fine-tuned, for which diffusers has files of LoRA weights."""

VALIDATED = 160
"""Validation images at most."""

DENOISER_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
ENCODER_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""Layers that LoRA changes: attention's."""


class TunedWeights(nn.Module):
    """The weights that are trained, alone: checkpoints and averages hold nothing of what stays as it is."""

    def __init__(self, pipeline: TextToImagePipeline, encoders: list[nn.Module]) -> None:
        super().__init__()
        self.pipeline, self.parts, self.train_text = pipeline, (pipeline.denoiser, *encoders), bool(encoders)
        self.gather()

    def gather(self) -> None:
        """Take the weights as they are now: on some devices a network that is moved gets new ones."""
        self.weights = nn.ParameterList(p for part in self.parts for p in part.parameters() if p.requires_grad)

    def forward(self, noisy: Tensor, timesteps: Tensor, prompts: list[str]) -> Tensor:
        pipeline = self.pipeline
        text = pipeline.text_states(prompts) if self.train_text else pipeline.encode_prompts(prompts)
        return pipeline.predict(noisy.to(pipeline.denoiser.dtype), timesteps, text)


class FineTuneTask:
    """Denoising of latents from reports, or labels where there are none, in the way that the model was trained."""

    def __init__(self, recipe: FineTuneRecipe, device: torch.device) -> None:
        self.recipe, self.domain, self.device = recipe, load_domain(recipe.domain), device
        folder = model_folder(recipe.model)
        kind = require_kind(folder, *TUNED, purpose="be fine-tuned by this recipe")
        # What LoRA leaves as it is needs no more precision than it is computed in.
        half = recipe.lora is not None and recipe.optim.precision != "float32" and fast_bfloat16(device)
        self.given = load_published(folder, kind, torch.bfloat16 if half else torch.float32)
        self.pipeline = adopt(self.given, self.domain)
        side = self.pipeline.image_side
        if recipe.data.image_size != side:
            raise RecipeError(f"{recipe.model} draws {side} pixels; set data.image_size: {side}")
        self.scheduler = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self.train, self.val = (records_of(recipe, split) for split in ("train", "val"))
        self.weights = torch.tensor([record_weight(r, recipe.sampling) for r in self.train])
        self.model = TunedWeights(self.pipeline, self._trainable())

    def to(self, device: torch.device) -> None:
        self.device = device
        self.pipeline.to(device)
        self.model.gather()

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = random_indices(len(self.train), batch_size, generator, self.weights)
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        records = [self.train[i] for i in chosen.tolist()]
        prompts = ["" if rng.random() < self.recipe.unconditional else self._prompt(r) for r in records]
        timesteps = torch.randint(self.scheduler.config.num_train_timesteps, (batch_size,), generator=generator)
        return self._error(model, records, prompts, timesteps, generator), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Denoising loss of validation images, with the same noise every time."""
        records = self.val[:: max(1, len(self.val) // VALIDATED)]
        generator, losses = Generator().manual_seed(0), []
        levels = self.scheduler.config.num_train_timesteps
        for number, record in enumerate(records):
            share = VALIDATION_TIMESTEPS[number % len(VALIDATION_TIMESTEPS)] / 1000
            timesteps = torch.tensor([int(share * levels)])
            losses.append(self._error(model, [record], [self._prompt(record)], timesteps, generator))
        return {"val_denoising": float(torch.stack(losses).mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        """The tuned model as a diffusers folder; the weights of a LoRA besides, in `lora`, as diffusers loads them."""
        if self.recipe.lora is not None:
            self.given.save_lora_weights(folder / "lora", **self._lora_layers(), safe_serialization=True)
            self.given.fuse_lora(components=self._tuned_names())
            self.given.unload_lora_weights()
        if self.recipe.domain != DEFAULT:
            self.given.register_to_config(domain=self.domain.stored)
        self.given.to("cpu", torch.float16)
        self.given.save_pretrained(folder, safe_serialization=True)

    def _trainable(self) -> list[nn.Module]:
        """Give the denoiser and, where they are trained too, the text encoders their trainable weights."""
        recipe, encoders = self.recipe, self._encoders()
        for part in (self.pipeline.vae, self.pipeline.denoiser, *encoders):
            part.eval().requires_grad_(False)
        tuned = {self.pipeline.denoiser: DENOISER_LAYERS}
        tuned |= dict.fromkeys(encoders, ENCODER_LAYERS) if recipe.train_text else {}
        for part, layers in tuned.items():
            if recipe.lora is None:
                part.requires_grad_(True)
            else:
                _add_adapter(part, recipe.lora, layers)
                cast_training_params(part)
        if recipe.gradient_checkpointing:
            self.pipeline.denoiser.enable_gradient_checkpointing()
        return encoders if recipe.train_text else []

    def _encoders(self) -> list[nn.Module]:
        return [part for name, part in self.given.components.items() if name.startswith("text_encoder")]

    def _tuned_names(self) -> list[str]:
        names = ["unet", *(name for name in self.given.components if name.startswith("text_encoder"))]
        return names if self.recipe.train_text else names[:1]

    def _lora_layers(self) -> dict[str, Any]:
        """Of each tuned part, the weights that diffusers saves as LoRA, by its argument's name."""
        from peft import get_peft_model_state_dict

        return {
            f"{name}_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(getattr(self.given, name)))
            for name in self._tuned_names()
        }

    def _error(
        self, model: nn.Module, records: list[Record], prompts: list[str], timesteps: Tensor, generator: Generator
    ) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            latents = self.pipeline.encode(np.stack([self._picture(record) for record in records]))

        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            return model(noisy, steps, prompts)

        return denoising_error(predict, self.scheduler, latents, timesteps, generator).mean()

    def _picture(self, record: Record) -> np.ndarray:
        """Float32 (side, side), or (side, side, 3), in [0, 1]; read when wanted: memory does not grow with the data."""
        data, colour = self.recipe.data, self.domain.colour
        planes = [square(p, data.image_size, fit=data.fit) for p in read_planes(record.path, 3 if colour else 1)]
        return np.stack(planes, axis=-1) if colour else planes[0]

    def _prompt(self, record: Record) -> str:
        return record.report or self.domain.record_prompt(record)


def _add_adapter(part: nn.Module, lora: LoraConfig, layers: tuple[str, ...]) -> None:
    try:
        import peft
    except ImportError as error:
        raise RecipeError("LoRA needs the package peft; pip install 'skiagraph[lora]'") from error
    config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.rank, target_modules=list(layers), lora_dropout=0.0)
    if hasattr(part, "add_adapter") and hasattr(part, "fuse_lora"):
        part.add_adapter(config)
    else:
        peft.inject_adapter_in_model(config, part)  # transformers' own way wants one version of peft
