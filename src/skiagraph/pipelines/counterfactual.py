"""Counterfactual editing: change the finding, hold the anatomy still (arXiv 2603.04130), on a text-to-image model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from torch import Generator, Tensor

from skiagraph.attention.capture import middle_layers
from skiagraph.attention.heatmaps import capture_words, word_spans
from skiagraph.attention.regulate import (
    corrected_latents,
    in_window,
    localisation_loss,
    localisation_score,
    omega_map,
    step_size,
)
from skiagraph.attention.steer import Regulation, regulated
from skiagraph.errors import MaskError, ModelError
from skiagraph.models.text import TextStates
from skiagraph.pipelines.paste import with_change
from skiagraph.pipelines.text_to_image import TextToImagePipeline


@dataclass(frozen=True)
class EditSettings:
    """How an edit is made; the paper's values where it has them.

    start: "inversion" runs DDIM backwards from the image, "noise" adds noise to it (Eq. 2).
    strength: share of the schedule that is run, in (0, 1]; 1 starts from Eq. 2's z_T, which keeps almost nothing.
    guidance: guidance scale.
    eta: Eq. 6, amplification of attention to the finding's words inside the region.
    window: mu, the share of steps that Eqs. 6 and 9 act in.
    alpha: Eq. 9's first step size.
    floor: Eq. 5, weight left to attention outside the organs; 1 switches the gate off.
    renormalise: Eq. 5, whether gated weights sum to one again.
    feather: pixels over which the edit fades in from the region's border inwards.
    """

    start: str = "inversion"
    strength: float = 0.6
    steps: int = 50
    guidance: float = 4.0
    eta: float = 1.5
    window: float = 0.4
    alpha: float = 0.05
    floor: float = 0.5
    renormalise: bool = True
    feather: float = 8.0


@dataclass(frozen=True)
class Edit:
    """An edit and what it is made of.

    image: float32 (H, W) in [0, 1].
    change: float32 (H, W), what the denoiser would add everywhere; `image` has it faded in inside the region.
    scores: Eq. 7 before each step of Eq. 9, in [0, 1].
    """

    image: np.ndarray
    change: np.ndarray
    scores: list[float]


def edit_image(
    pipeline: TextToImagePipeline,
    image: np.ndarray,
    *,
    target: str,
    source: str,
    words: list[str],
    roi: np.ndarray,
    anatomy: np.ndarray,
    settings: EditSettings | None = None,
    seed: int = 0,
) -> Edit:
    """Edit one radiograph inside a region, so that it shows the target prompt.

    What the denoiser makes of the target is compared with what it makes of the image itself, and only the difference,
    decoded, is added to the image inside the region: fine texture that no autoencoder keeps stays as it was.

    Args:
        pipeline: with a U-ViT denoiser.
        image: float (H, W) in [0, 1], the model's size.
        target: prompt in the text encoder's words.
        source: prompt of the image as it is, in the same words.
        words: words of the target that name the finding.
        roi: bool (H, W), where it may change.
        anatomy: bool (H, W), the organs that hold still.
        settings: defaults where None.
        seed: of the noise.

    Raises:
        MaskError: masks of another size than the image, or an empty region.
        ModelError: words that are not in the target, or settings out of range.
    """
    s = settings or EditSettings()
    _check(image, roi, anatomy, s)
    # The inverse scheduler does not know every spacing of steps; both must use the same one.
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False, timestep_spacing="leading")
    scheduler.set_timesteps(s.steps)
    timesteps = scheduler.timesteps[s.steps - max(1, round(s.strength * s.steps)) :]
    length = pipeline.config.prompt_length
    spans = word_spans(pipeline.tokenizer, [target], [words], length)
    original = pipeline.encode(image[None])
    path = _path(pipeline, original, source, scheduler, timesteps, s, seed)
    inside = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(roi.astype(np.float32))[None, None], original.shape[-2:]
    ).clamp(0, 1)
    text = pipeline.encode_prompts(["", target])
    steering = Regulation(
        anatomy, roi, (spans.sum(dim=1) > 0).float(), eta=s.eta, floor=s.floor, renormalise=s.renormalise
    )
    latents, scores = path[0], []
    with regulated(pipeline.denoiser, steering):
        for index, timestep in enumerate(timesteps):
            early = in_window(index, len(timesteps), s.window)
            steering.amplify = early
            if early and s.alpha:
                latents, score = _localised(pipeline, latents, timestep, text, spans, roi, index, len(timesteps), s)
                scores.append(score)
            with torch.no_grad():
                predicted = pipeline.predict_guided(latents, timestep, text, s.guidance)
                latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
            latents = inside * latents + (1 - inside) * path[index + 1]
    change = pipeline.decode(latents)[0] - pipeline.decode(path[-1])[0]
    return Edit(with_change(image, change, roi, s.feather), change, scores)


def _path(
    pipeline: TextToImagePipeline, original: Tensor, source: str, scheduler: DDIMScheduler, timesteps: Tensor,
    s: EditSettings, seed: int,
) -> list[Tensor]:  # fmt: skip
    """The image's own latents at every step of the edit, from the noisiest to the clean ones."""
    if s.start == "noise":
        noise = torch.randn(original.shape, generator=Generator().manual_seed(seed))
        return [*(scheduler.add_noise(original, noise, t[None]) for t in timesteps), original]
    inverse = DDIMInverseScheduler.from_config(scheduler.config)
    inverse.set_timesteps(s.steps)
    text = pipeline.encode_prompts([source])
    latents, path = original, [original]
    with torch.no_grad():
        for timestep in inverse.timesteps[: len(timesteps)]:
            predicted = pipeline.predict_guided(latents, timestep, text, 1.0)
            latents = inverse.step(predicted, timestep, latents, return_dict=False)[0]
            path.append(latents)
    return path[::-1]


def _localised(
    pipeline: TextToImagePipeline, latents: Tensor, timestep: Tensor, text: TextStates, spans: Tensor, roi: np.ndarray,
    index: int, total: int, s: EditSettings,
) -> tuple[Tensor, float]:  # fmt: skip
    """Eqs. 7 to 9: latents moved so that the finding's words look into the region, and the score before."""
    denoiser = pipeline.denoiser
    moving = latents.detach().requires_grad_(True)
    with torch.enable_grad(), capture_words(denoiser, spans, middle_layers(denoiser)) as maps:
        denoiser(moving.to(denoiser.dtype), timestep, text.states[-1:], text.mask[-1:])
        found = next(iter(maps.mean().values()))[0]
        score = localisation_score(found.flatten(1), omega_map(roi, tuple(found.shape[-2:])))
        (gradient,) = torch.autograd.grad(localisation_loss(score), moving)
    alpha = step_size(index, max(1, round(s.window * total)), s.alpha)
    return corrected_latents(latents, gradient, alpha), float(score.detach().mean())


def _check(image: np.ndarray, roi: np.ndarray, anatomy: np.ndarray, s: EditSettings) -> None:
    if image.ndim != 2 or roi.shape != image.shape or anatomy.shape != image.shape:
        raise MaskError(f"image {image.shape}, region {roi.shape} and organs {anatomy.shape} must have one size (H, W)")
    if not roi.any():
        raise MaskError("the region of interest is empty; name a place that the picture shows")
    if s.start not in ("inversion", "noise") or not 0 < s.strength <= 1:
        raise ModelError(f"start {s.start!r} must be inversion or noise, and strength {s.strength} in (0, 1]")
