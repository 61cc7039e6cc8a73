"""Training of a denoiser that paints inside masks, in colour or grey, for SynDiff's augmentation (arXiv 2507.15361)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Generator, Tensor, nn

from skiagraph.data.captions import Phrase
from skiagraph.data.datasets import Record, masked
from skiagraph.data.masks import read_mask
from skiagraph.data.polyps import polyp_language, polyp_phrases
from skiagraph.domains.domain import load_domain
from skiagraph.errors import DataError
from skiagraph.models.registry import load_component
from skiagraph.models.uvit import UViT2DModel
from skiagraph.pipelines.inpaint import mask_area
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.training.images import load_images, random_affine, random_indices, records_of, to_model_range, warp
from skiagraph.training.prompts import PromptBatch, tokenize_captions
from skiagraph.training.recipe import InpaintingRecipe
from skiagraph.training.tasks.text_to_image import (
    VALIDATION_TIMESTEPS,
    ConditionalDenoiser,
    denoiser_sizes,
    denoising_error,
    pixel_weights,
    take_over,
    text_parts,
    training_scheduler,
)

Objects = tuple[Tensor, Tensor, list[list[Phrase]]]
"""Images uint8 (n, c, size, size), masks uint8 (n, 1, size, size), and the phrases that are true of each."""


class InpaintingTask:
    """Noise or velocity prediction inside masks from noisy latents, mask and masked image's latents, as in diffusers.

    Weights of the inputs that a text-to-image model lacks start at zero, so that one can be taken over (`start_from`).
    """

    def __init__(self, recipe: InpaintingRecipe) -> None:
        self.recipe, self.domain = recipe, load_domain(recipe.domain)
        self.autoencoder = load_component(recipe.autoencoder).eval().requires_grad_(False)
        self.scheduler = training_scheduler(recipe.prediction_type)
        self.train, self.val = (self._objects(records_of(recipe, split)) for split in ("train", "val"))
        corpus = polyp_language() if recipe.captions == "polyps" else self.domain.language()
        self.tokenizer, self.frozen_text, trained_text, text_dim = text_parts(recipe.text, corpus)
        self.prompt_style = "report"
        self.channels, side = self._encode(to_model_range(self.train[0][:1])).shape[1:3]
        denoiser = UViT2DModel(
            **denoiser_sizes(recipe.denoiser), sample_size=side, in_channels=2 * self.channels + 1,
            out_channels=self.channels, text_dim=text_dim, text_tokens=recipe.text.max_length,
        )  # fmt: skip
        with torch.no_grad():
            denoiser.patch_embed.weight[:, self.channels :] = 0
        self.model = ConditionalDenoiser(denoiser, trained_text)
        if recipe.start_from is not None:
            self._start_from(recipe.start_from)
        self.loss_weights = pixel_weights(self.autoencoder)
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self.device = device
        self.autoencoder = self.autoencoder.to(device)
        self.loss_weights = self.loss_weights.to(device)
        self.frozen_text = self.frozen_text.to(device) if self.frozen_text else None

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        images, masks, phrases = self.train
        chosen = random_indices(len(images), batch_size, generator)
        matrices = random_affine(batch_size, generator, rotate=self.recipe.rotate, zoom=0.15, shift=0.05)
        images = warp(to_model_range(images[chosen]), matrices)
        masks = warp(masks[chosen].float(), matrices, mode="nearest", padding="zeros")
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        prompts = self._prompts([self._caption(phrases[i], rng) for i in chosen.tolist()])
        timesteps = torch.randint(self.scheduler.config.num_train_timesteps, (batch_size,), generator=generator)
        return self._painting_loss(model, images, masks, prompts, timesteps, generator), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Denoising loss inside the masks of validation images, the same noise every time."""
        images, masks, phrases = self.val
        generator, losses = Generator().manual_seed(0), []
        for number, part in enumerate(torch.arange(len(images)).split(16)):
            timesteps = torch.full((len(part),), VALIDATION_TIMESTEPS[number % len(VALIDATION_TIMESTEPS)])
            prompts = self._prompts([phrases[i] for i in part.tolist()])
            losses.append(
                self._painting_loss(model, to_model_range(images[part]), masks[part], prompts, timesteps, generator)
            )
        return {"val_denoising": float(torch.stack(losses).mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        pipeline = TextToImagePipeline(
            denoiser=model.denoiser, vae=self.autoencoder, text_encoder=self.frozen_text or model.text_encoder,
            tokenizer=self.tokenizer, scheduler=DPMSolverMultistepScheduler.from_config(self.scheduler.config),
            prompt_length=self.recipe.text.max_length, prompt_style=self.prompt_style,
            colour=self.autoencoder.config.in_channels == 3,
        )  # fmt: skip
        pipeline.to(dtype=torch.float16).save_pretrained(folder)

    def _painting_loss(
        self, model: nn.Module, images: Tensor, masks: Tensor, prompts: PromptBatch, timesteps: Tensor,
        generator: Generator,
    ) -> Tensor:  # fmt: skip
        """Mean over the latent pixels that the masks touch."""
        images, masks = images.to(self.device), masks.to(self.device)
        latents = self._encode(images)
        area = mask_area(masks, latents.shape[-1])
        beside = torch.cat([area, self._encode(images.masked_fill(masks > 0, 0.0))], dim=1)

        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            return model(torch.cat([noisy, beside], dim=1), steps, prompts, self.frozen_text)

        error = denoising_error(predict, self.scheduler, latents, timesteps, generator) * self.loss_weights
        inside = (area > 0).float()
        return (error.mean(dim=1, keepdim=True) * inside).sum() / inside.sum().clamp_min(1)

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        config = self.autoencoder.config
        with torch.autocast(images.device.type, enabled=False):
            means = self.autoencoder.encode(images).latent_dist.mode()
        return (means - (config.get("shift_factor") or 0.0)) * config.scaling_factor

    def _prompts(self, captions: list[list[Phrase]]) -> PromptBatch:
        return tokenize_captions(self.tokenizer, captions, self.recipe.text.max_length, ()).to(self.device)

    def _caption(self, phrases: list[Phrase], rng: random.Random) -> list[Phrase]:
        if rng.random() < self.recipe.unconditional:
            return []
        return [p for p in phrases if rng.random() >= self.recipe.phrase_dropout] or phrases[:1]

    def _objects(self, records: list[Record]) -> Objects:
        data, kept, masks = self.recipe.data, [], []
        for record in masked(records):
            mask = read_mask(record.mask, data.image_size, fit=data.fit, classes=["object"])
            if mask.any():
                kept.append(record)
                masks.append(torch.from_numpy(mask))
        if not kept:
            raise DataError(f"no image of {', '.join(data.datasets)} has a trusted mask to paint in")
        images = load_images(kept, data.image_size, data.fit, channels=self.autoencoder.config.in_channels)
        phrases = [self._phrases(*case) for case in zip(kept, images, masks, strict=True)]
        return images, torch.stack(masks)[:, None], phrases

    def _phrases(self, record: Record, image: Tensor, mask: Tensor) -> list[Phrase]:
        if self.recipe.captions == "reports":
            return [Phrase(record.report or self.domain.record_prompt(record))]
        pixels = np.broadcast_to(image.movedim(0, -1).numpy().astype(np.float32) / 255, (*mask.shape, 3))
        return [Phrase(text) for text in polyp_phrases(pixels, mask.numpy() > 0)]

    def _start_from(self, name_or_folder: str) -> None:
        trained = TextToImagePipeline.load(name_or_folder)
        weights = trained.denoiser.state_dict()
        known = weights["patch_embed.weight"]
        missing = self.model.denoiser.patch_embed.weight.shape[1] - known.shape[1]
        filler = known.new_zeros(len(known), max(0, missing), *known.shape[2:])
        weights["patch_embed.weight"] = torch.cat([known, filler], dim=1)
        take_over(self.model, weights, trained, name_or_folder)
        self.tokenizer, self.prompt_style = trained.tokenizer, trained.config.prompt_style
