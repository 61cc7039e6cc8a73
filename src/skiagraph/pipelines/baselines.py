"""What counterfactual editing is compared with, behind the interface of `edit_image`, and results made elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline
from PIL import Image
from torch import Tensor

from skiagraph.data.images import read_radiograph, square
from skiagraph.devices import seeded
from skiagraph.errors import ModelError
from skiagraph.models.registry import loading
from skiagraph.models.text import TextStates
from skiagraph.pipelines.counterfactual import (
    Edit,
    EditSettings,
    check_edit,
    latent_mask,
    noised,
)
from skiagraph.pipelines.ddim import sampler
from skiagraph.pipelines.paste import with_change
from skiagraph.pipelines.text_to_image import TextToImagePipeline

LOOPS, LOOP_STRENGTH = 10, 0.5
"""PIE: how often an image goes through image-to-image sampling, and how far each time."""

KEPT_OUTSIDE, KEPT_INSIDE = 0.01, 0.75
"""PIE: share of what a loop changed that is kept, outside and inside the region (beta 1 and 2)."""


@torch.no_grad()
def blended_inpainting(
    pipeline: TextToImagePipeline, image: np.ndarray, *, target: str, source: str, words: list[str], roi: np.ndarray,
    anatomy: np.ndarray, settings: EditSettings | None = None, seed: int = 0,
) -> Edit:  # fmt: skip
    """Stable-Diffusion inpainting by blended latents (Avrahami et al. 2023, arXiv 2206.02779): no steered attention.

    The region starts as pure noise; in every step the latents outside it are the image's own, noised. Of `settings`,
    `steps`, `guidance` and `feather` count. Arguments, result and errors as in `edit_image`.
    """
    s = replace(settings or EditSettings(), strength=1.0)
    check_edit(image, roi, anatomy, s)
    scheduler, timesteps = sampler(pipeline.scheduler.config, s.steps, s.strength)
    original = pipeline.encode(image[None])
    path = noised(original, scheduler, timesteps, seed)
    text = pipeline.encode_prompts(["", target])
    latents = _blended(pipeline, path[0], path, scheduler, timesteps, text, s.guidance, latent_mask(roi, original))
    return _pasted(pipeline, latents, image, roi, s)


@torch.no_grad()
def pie(
    pipeline: TextToImagePipeline, image: np.ndarray, *, target: str, source: str, words: list[str], roi: np.ndarray,
    anatomy: np.ndarray, settings: EditSettings | None = None, seed: int = 0,
) -> Edit:  # fmt: skip
    """Progressive image editing (Liang et al. 2023, arXiv 2309.11745): many short image-to-image runs.

    After each, z = z0 + b (z - z0), with b `KEPT_INSIDE` in the region and `KEPT_OUTSIDE` elsewhere. Of `settings`,
    `steps`, `guidance` and `feather` count. Arguments, result and errors as in `edit_image`.
    """
    s = replace(settings or EditSettings(), strength=LOOP_STRENGTH)
    check_edit(image, roi, anatomy, s)
    scheduler, timesteps = sampler(pipeline.scheduler.config, s.steps, s.strength)
    original = pipeline.encode(image[None])
    inside = latent_mask(roi, original)
    kept = KEPT_INSIDE * inside + KEPT_OUTSIDE * (1 - inside)
    text = pipeline.encode_prompts(["", target])
    latents = original
    for loop in range(LOOPS):
        path = noised(original, scheduler, timesteps, seed + loop)
        start = noised(latents, scheduler, timesteps[:1], seed + loop)[0]
        made = _blended(pipeline, start, path, scheduler, timesteps, text, s.guidance, inside)
        latents = original + kept * (made - original)
    return _pasted(pipeline, latents, image, roi, s)


def instruction_edit(
    pipeline: StableDiffusionInstructPix2PixPipeline, image: np.ndarray, *, target: str, source: str, words: list[str],
    roi: np.ndarray, anatomy: np.ndarray, settings: EditSettings | None = None, seed: int = 0,
) -> Edit:  # fmt: skip
    """Editing by instruction (InstructPix2Pix, arXiv 2211.09800), as BiomedJourney does: the whole picture may change.

    The target is the instruction. Of `settings`, `steps` and `guidance` count; the guidance towards the image is the
    pipeline's own. Arguments and errors as in `edit_image`; the result is not held to the region.
    """
    s = settings or EditSettings()
    check_edit(image, roi, anatomy, s)
    grey = Image.fromarray(np.round(image * 255).astype(np.uint8)).convert("RGB")
    made = pipeline(
        target, image=grey, num_inference_steps=s.steps, guidance_scale=s.guidance,
        generator=seeded(seed), output_type="np",
    ).images[0].mean(axis=-1)  # fmt: skip
    edited = square(made.astype(np.float32).clip(0, 1), image.shape[0])
    return Edit(edited, edited - image)


def load_instruction_pipeline(folder: str | Path, **options: Any) -> StableDiffusionInstructPix2PixPipeline:
    """Published weights of the InstructPix2Pix kind from a local diffusers folder; nothing is downloaded.

    Raises:
        ModelError: no such folder, or it does not load as such a pipeline.
    """
    if not Path(folder).is_dir():
        raise ModelError(f"no folder {folder}; an InstructPix2Pix model is a local diffusers folder")
    with loading(folder):
        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, **options
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def outside_result(path: str | Path, image: np.ndarray) -> Edit:
    """What another program (ProgEmu, say) made of an image (H, W): its picture, brought to the image's size.

    Raises:
        ImageError: a picture that cannot be read.
    """
    edited = square(read_radiograph(path).pixels, image.shape[0], fit="pad")
    return Edit(edited, edited - image)


def _blended(
    pipeline: TextToImagePipeline, latents: Tensor, path: list[Tensor], scheduler: DDIMScheduler, timesteps: Tensor,
    text: TextStates, guidance: float, inside: Tensor,
) -> Tensor:  # fmt: skip
    """Sample from `latents`, the outside of the region held to `path` after every step."""
    for index, timestep in enumerate(timesteps):
        predicted = pipeline.predict_guided(latents, timestep, text, guidance)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        latents = inside * latents + (1 - inside) * path[index + 1]
    return latents


def _pasted(
    pipeline: TextToImagePipeline, latents: Tensor, image: np.ndarray, roi: np.ndarray, s: EditSettings
) -> Edit:
    change = pipeline.decode(latents)[0] - image
    return Edit(with_change(image, change, roi, s.feather), change)
