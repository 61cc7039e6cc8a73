"""Text-guided painting inside real masks (SynDiff, arXiv 2507.15361, section 2.1), so that the masks stay valid.

Two ways behind one interface: any diffusers inpainting checkpoint, and this project's own models by masked sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from skiagraph.data.images import square, unsquare
from skiagraph.devices import seeded, usable_device
from skiagraph.errors import MaskError, ModelError
from skiagraph.models.registry import DEFAULT_MODEL, USES, model_folder, require_kind
from skiagraph.models.words import own_length
from skiagraph.pipelines.ddim import sampler
from skiagraph.pipelines.paste import coarse, with_change
from skiagraph.pipelines.published import ADOPTED, load_pipeline, load_published
from skiagraph.pipelines.text_to_image import TextToImagePipeline

FOREIGN = ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline")
"""Diffusers' pipelines that are trained to paint, used as they are."""

PAINTING = tuple(kind for kind in ADOPTED if "augment" in USES[kind])
"""Published text-to-image models that paint by masked sampling."""


@dataclass(frozen=True)
class InpaintSettings:
    """How a region is painted.

    steps: denoising steps of the whole schedule.
    guidance: guidance scale.
    strength: share of the schedule that is run, in (0, 1]; below 1 painting starts from the noised image itself.
    resamples: times that each step is taken, going back to its noise in between (RePaint); own models only.
    feather: pixels of the image over which the painting fades in from the mask's border inwards.
    keep_detail: what is finer than so many of the model's pixels stays the image's own; the painter's own where None.
    """

    steps: int = 30
    guidance: float = 3.0
    strength: float = 0.6
    resamples: int = 1
    feather: float = 6.0
    keep_detail: float | None = None


class Painter(Protocol):
    """Paints a square image of side `side` inside a mask; `keep_detail` as in `InpaintSettings`."""

    side: int
    keep_detail: float

    def change(
        self, image: np.ndarray, mask: np.ndarray, prompt: str, negative: str, seed: int, settings: InpaintSettings
    ) -> np.ndarray:
        """What painting adds to the image: both float32 (side, side) or (side, side, 3), the image in [0, 1].

        Painted and unpainted image are both taken through the autoencoder before they are compared, so its own losses
        are no part of the change. ReportError or ModelError for prompts or colours that the model does not know.
        """


def load_painter(
    name_or_folder: str | Path = DEFAULT_MODEL, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Painter:
    """A painter from a text-to-image model, ours or a published one, or from one of the `FOREIGN` layouts.

    Raises:
        ModelError: no such model or device, one of another kind or whose tokenizer has no length, or missing or damaged
            files; nothing is downloaded but within `skiagraph.models.hub.downloads`.
    """
    folder = model_folder(name_or_folder)
    kind = require_kind(folder, TextToImagePipeline.__name__, *PAINTING, *FOREIGN, purpose="paint inside masks")
    if kind not in FOREIGN:
        return MaskedSampling(load_pipeline(folder, dtype=dtype, device=device))
    place = usable_device(device)
    pipeline = load_published(folder, kind, dtype)
    own_length(pipeline.tokenizer)
    return DiffusersInpainting(pipeline.to(place))


def inpaint(
    painter: Painter,
    image: np.ndarray,
    mask: np.ndarray,
    prompt: str,
    *,
    negative: str = "",
    seed: int = 0,
    settings: InpaintSettings | None = None,
) -> np.ndarray:
    """The image painted inside the mask as the prompt says; every pixel outside is the image's own.

    Painting happens at the model's size on the padded square. Its change, not the picture, is brought back to full
    size and faded in, so that the grain inside stays that of the image.

    Args:
        painter: from `load_painter`.
        image: float (H, W), or (H, W, 3) in colour, in [0, 1].
        mask: bool (H, W), where to paint.
        prompt: what to paint.
        negative: what to lead away from.
        seed: of the noise.
        settings: defaults where None.

    Returns:
        float32 in [0, 1], of the image's shape.

    Raises:
        MaskError: a mask of another size, or an empty one.
        ModelError: settings out of range, or an image the model has no colours for.
        ReportError: a prompt that names nothing the model knows.
    """
    s = settings or InpaintSettings()
    if mask.shape != image.shape[:2] or not mask.any():
        raise MaskError(f"mask {mask.shape} must have the image's size {image.shape[:2]} and not be empty")
    if not 0 < s.strength <= 1 or s.resamples < 1 or s.steps < 1:
        raise ModelError(f"strength {s.strength} must lie in (0, 1], steps {s.steps} and resamples {s.resamples} >= 1")
    # What is under half a pixel of the model's still has to be painted, so any touched pixel counts.
    small = square(mask.astype(np.float32), painter.side) > 0.05
    change = painter.change(square(image, painter.side), small, prompt, negative, seed, s)
    change = coarse(change, small, painter.keep_detail if s.keep_detail is None else s.keep_detail)
    return with_change(image, unsquare(change, mask.shape), mask, s.feather)


class MaskedSampling:
    """A text-to-image model that paints inside masks: blended latent diffusion (arXiv 2206.02779, algorithm 1).

    After every step, latents outside the mask are the image's own, noised to that step. With `resamples` above 1 each
    step is taken again from fresh noise, so that both sides of the border agree (RePaint, arXiv 2201.09865, algorithm
    1). Models trained to paint are besides shown the mask and the masked image, as diffusers' inpainting U-Nets are.

    Models of this size draw densities and tones well, fine things not: ribs, vessels, the surface of a polyp. So these
    stay the image's own (`keep_detail`).
    """

    def __init__(self, pipeline: TextToImagePipeline) -> None:
        self.pipeline, self.side = pipeline, pipeline.image_side
        self.trained_to_paint = pipeline.paints
        self.keep_detail = 16.0 if self.trained_to_paint else 6.0

    @torch.no_grad()
    def change(
        self, image: np.ndarray, mask: np.ndarray, prompt: str, negative: str, seed: int, settings: InpaintSettings
    ) -> np.ndarray:
        pipeline = self.pipeline
        if image.ndim == 3 and not pipeline.config.colour:
            raise ModelError("the model paints grey images only; this one is coloured")
        if image.ndim == 2 and pipeline.config.colour:
            colours = np.repeat(image[..., None], 3, axis=-1)
            return self.change(colours, mask, prompt, negative, seed, settings).mean(axis=-1)
        original = pipeline.encode(image[None])
        noise = _Noise(original, seed)
        scheduler, timesteps = sampler(pipeline.scheduler.config, settings.steps, settings.strength)
        levels = [*timesteps.tolist(), -1]
        inside, beside = self._told(image, mask, original)
        words = pipeline.in_model_words(prompt)
        against = pipeline.in_model_words(negative) if negative.strip() else [""]
        text = pipeline.encode_prompts(words if settings.guidance == 1 else against + words)
        latents = scheduler.add_noise(original, noise(), timesteps[:1])
        for level, following in pairwise(levels):
            for repeat in range(settings.resamples):
                if repeat:
                    latents = noised_again(latents, scheduler, following, level, noise())
                predicted = pipeline.predict_guided(latents, level, text, settings.guidance, beside)
                latents = scheduler.step(predicted, level, latents, eta=1.0, variance_noise=noise()).prev_sample
                known = original if following < 0 else noised_again(original, scheduler, -1, following, noise())
                latents = torch.where(inside, latents, known)
        return pipeline.decode(latents)[0] - pipeline.decode(original)[0]

    def _told(self, image: np.ndarray, mask: np.ndarray, original: Tensor) -> tuple[Tensor, Tensor | None]:
        """Latent pixels that are painted, bool (1, 1, h, w), and what a model trained to paint is told."""
        area = mask_area(torch.from_numpy(mask)[None, None], original.shape[-1]).to(original)
        if not self.trained_to_paint:
            return area > 0, None
        hidden = np.where(mask if image.ndim == 2 else mask[..., None], np.float32(0.5), image)
        return area > 0, torch.cat([area, self.pipeline.encode(hidden[None])], dim=1)


class DiffusersInpainting:
    """A diffusers inpainting pipeline; grey images are shown to it in three equal channels."""

    keep_detail = 0.0

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.pipeline = pipeline
        self.side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def change(
        self, image: np.ndarray, mask: np.ndarray, prompt: str, negative: str, seed: int, settings: InpaintSettings
    ) -> np.ndarray:
        colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
        pixels = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))[None]
        painted = self.pipeline(
            prompt=prompt, negative_prompt=negative, image=pixels,
            mask_image=torch.from_numpy(mask.astype(np.float32))[None, None], height=self.side, width=self.side,
            strength=settings.strength, num_inference_steps=settings.steps, guidance_scale=settings.guidance,
            generator=seeded(seed), output_type="np",
        ).images[0]  # fmt: skip
        change = painted.astype(np.float32) - self._rebuilt(pixels)
        return change if image.ndim == 3 else change.mean(axis=-1)

    def _rebuilt(self, pixels: Tensor) -> np.ndarray:
        """The image (H, W, 3) after the autoencoder, in full precision: some overflow in half."""
        vae = self.pipeline.vae
        before = vae.dtype
        vae.to(torch.float32)
        rebuilt = vae.decode(vae.encode(pixels.to(vae.device) * 2 - 1).latent_dist.mode()).sample
        vae.to(before)
        return (rebuilt[0] / 2 + 0.5).clamp(0, 1).movedim(0, -1).cpu().numpy()


class _Noise:
    """Fresh noise of a tensor's shape at every call, from one seed whatever the device."""

    def __init__(self, like: Tensor, seed: int) -> None:
        self.like, self.generator = like, seeded(seed)

    def __call__(self) -> Tensor:
        return torch.randn(self.like.shape, generator=self.generator).to(self.like)


def mask_area(masks: Tensor, side: int) -> Tensor:
    """Share of each latent pixel inside, float (n, 1, side, side) in [0, 1], of masks (n, 1, H, W)."""
    return torch.nn.functional.adaptive_avg_pool2d(masks.float(), side)


def noised_again(latents: Tensor, scheduler: Any, level: int, target: int, noise: Tensor) -> Tensor:
    """x_t = sqrt(a_t / a_s) x_s + sqrt(1 - a_t / a_s) noise (RePaint, arXiv 2201.09865, algorithm 1, line 9).

    Args:
        latents: at timestep `level` (s); below 0 they are clean.
        scheduler: with `alphas_cumprod` (a).
        level: s.
        target: t > s.
        noise: of the latents' shape.
    """
    alphas = scheduler.alphas_cumprod
    kept = alphas[target] / (alphas[level] if level >= 0 else 1.0)
    return kept.sqrt() * latents + (1 - kept).sqrt() * noise
