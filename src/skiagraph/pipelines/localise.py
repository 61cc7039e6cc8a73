"""Pulling the attention to a finding's words into its region by a gradient on the latents."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.heatmaps import capture_words
from skiagraph.attention.regulate import corrected_latents, localisation_loss, localisation_score, omega_map
from skiagraph.models.text import TextStates
from skiagraph.pipelines.text_to_image import TextToImagePipeline


class _Read(Exception):
    """Every layer whose maps are wanted has been passed."""


def localised(
    pipeline: TextToImagePipeline, latents: Tensor, timestep: Tensor, text: TextStates, spans: Tensor, roi: np.ndarray,
    alpha: float, relative: bool, eta: float = 0.0,
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
        eta: of Eq. 6, whose A_path, attention times 1 + eta Omega, is then what Eq. 7 scores, as printed.

    Returns:
        The latents, Eq. 7's score before (the mean over layers and, by Eq. 8, over the words' tokens), and the step's
        length over the latents'.
    """
    moving = latents.detach().requires_grad_(True)
    with torch.enable_grad():
        maps = _word_maps(pipeline, moving, timestep, text, each_token(spans))
        scores = []
        for by_token in maps:
            omega = omega_map(roi, tuple(by_token.shape[-2:])).to(by_token)
            scores.append(localisation_score(by_token.flatten(1) * (1 + eta * omega), omega))
        score = torch.stack(scores).mean(dim=0)
        (gradient,) = torch.autograd.grad(localisation_loss(score), moving)
    length, unit = latents.norm(), gradient.norm().clamp_min(1e-12)
    if relative:
        alpha = alpha * float(length / unit)
    return corrected_latents(latents, gradient, alpha), float(score.detach().mean()), alpha * float(unit / length)


def each_token(spans: Tensor) -> Tensor:
    """Every token of any word by itself: spans (1, words, tokens) to ones and zeros (1, count, tokens)."""
    used = (spans[0].sum(dim=0) > 0).nonzero()[:, 0]
    return torch.eye(spans.shape[-1], device=spans.device)[used][None]


def _word_maps(
    pipeline: TextToImagePipeline, latents: Tensor, timestep: Tensor, text: TextStates, spans: Tensor
) -> list[Tensor]:
    """Maps (words, h, w) of the layers that point, with gradient; a U-ViT is run no further than the last of them."""
    denoiser = pipeline.denoiser
    layers = adapter_of(denoiser).pointing

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
