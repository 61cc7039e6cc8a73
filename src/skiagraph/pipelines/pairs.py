"""Images together with where their words look: the first half of arXiv 2503.07209, for any text-to-image pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline

from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.heatmaps import capture_words, word_spans
from skiagraph.pipelines.published import adopt
from skiagraph.pipelines.text_to_image import with_words

NOISE = (0.3, 0.75)
"""Shares of the noise schedule between which words point best: earlier there is no shape yet, later only detail."""


@dataclass(frozen=True)
class ImagesWithMaps:
    """Images float32 (n, H, W) and heat maps float32 (n, classes, H, W), all in [0, 1], and the prompts as encoded."""

    images: np.ndarray
    heats: np.ndarray
    prompts: list[str]


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
        pipeline: a `TextToImagePipeline`, or a diffusers pipeline that `adopt` takes, such as Stable Diffusion's.
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
    pipeline = adopt(pipeline)
    known, denoiser = pipeline.domain.class_words, pipeline.denoiser
    words = [known.get(name, (name,)) for name in classes]
    named = list(dict.fromkeys(w for name in classes for w in known.get(name, ())))
    flat = [word for group in words for word in group]
    encoded = [with_words(p, named) for p in pipeline.in_model_words(list(prompts))]
    spans = word_spans(pipeline.tokenizer, encoded, [flat] * len(encoded), pipeline.config.prompt_length)
    layers = adapter_of(denoiser).pointing if layers is None else layers
    levels = pipeline.scheduler.config.num_train_timesteps
    window = noise[0] * levels, noise[1] * levels
    with torch.no_grad(), capture_words(denoiser, spans, layers, timesteps=window) as maps:
        images = pipeline(
            list(prompts), naming=named, num_inference_steps=steps, guidance_scale=guidance, seeds=seeds
        ).images
        images = images.mean(axis=-1) if images.ndim == 4 else images
    found = maps.combined(images.shape[1:]).clamp(0, 1).cpu().numpy()
    ends = np.cumsum([len(group) for group in words])
    heats = np.stack([part.max(axis=1) for part in np.split(found, ends[:-1], axis=1)], axis=1)
    return ImagesWithMaps(images=images, heats=heats, prompts=encoded)
