"""Pulling the attention to a finding's words into its region by a gradient on the latents."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from skiagraph.attention.heatmaps import MIDDLE_LAYERS, capture_words
from skiagraph.attention.regulate import corrected_latents, localisation_loss, localisation_score, omega_map
from skiagraph.models.text import TextStates
from skiagraph.models.uvit import UViT2DModel
from skiagraph.pipelines.text_to_image import TextToImagePipeline


class _Read(Exception):
    """Every layer whose maps are wanted has been passed."""


def localised(
    pipeline: TextToImagePipeline, latents: Tensor, timestep: Tensor, text: TextStates, spans: Tensor, roi: np.ndarray,
    alpha: float, relative: bool,
) -> tuple[Tensor, float, float]:  # fmt: skip
    """Eqs. 7 to 9 (arXiv 2603.04130): latents moved so that the finding's words look into the region.

    Args:
        pipeline: with a U-ViT or a diffusers U-Net, steered or not.
        latents: (1, c, h, w) at `timestep`.
        timestep: of the scheduler.
        text: states of the one prompt.
        spans: from `word_spans`, (1, words, tokens).
        roi: bool (H, W).
        alpha: size of the step.
        relative: alpha is the step's length over that of the latents, else the gradient's factor.

    Returns:
        The latents, Eq. 7's score before (the mean over layers and words), and the step's length over the latents'.
    """
    moving = latents.detach().requires_grad_(True)
    with torch.enable_grad():
        maps = _word_maps(pipeline, moving, timestep, text, spans)
        scores = [localisation_score(m.flatten(1), omega_map(roi, tuple(m.shape[-2:]))) for m in maps]
        score = torch.stack(scores).mean(dim=0)
        (gradient,) = torch.autograd.grad(localisation_loss(score), moving)
    length, unit = latents.norm(), gradient.norm().clamp_min(1e-12)
    if relative:
        alpha = alpha * float(length / unit)
    return corrected_latents(latents, gradient, alpha), float(score.detach().mean()), alpha * float(unit / length)


def _word_maps(
    pipeline: TextToImagePipeline, latents: Tensor, timestep: Tensor, text: TextStates, spans: Tensor
) -> list[Tensor]:
    """Maps (words, h, w) of the layers that point, with gradient; a U-ViT is run no further than the last of them."""
    denoiser = pipeline.denoiser
    layers = MIDDLE_LAYERS if isinstance(denoiser, UViT2DModel) else None

    def stop(*_: object) -> None:
        raise _Read

    last = None if layers is None else denoiser.get_submodule(layers[-1].removesuffix(".processor"))
    handle = None if last is None else last.register_forward_hook(stop)
    try:
        with capture_words(denoiser, spans, layers) as maps, suppress(_Read):
            pipeline.predict_guided(latents, timestep, text, 1.0)
    finally:
        if handle is not None:
            handle.remove()
    return [found[0] for found in maps.mean().values()]
