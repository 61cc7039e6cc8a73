"""Counterfactual editing: change the finding, hold the anatomy still (arXiv 2603.04130), on a text-to-image model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor

from skiagraph.attention.heatmaps import word_spans
from skiagraph.attention.regulate import in_window, step_size
from skiagraph.attention.steer import Regulation, regulated
from skiagraph.devices import seeded
from skiagraph.errors import MaskError, ModelError
from skiagraph.pipelines.ddim import inverse_sampler, sampler
from skiagraph.pipelines.localise import localised
from skiagraph.pipelines.paste import covering, one_way, tissue_levels, with_change
from skiagraph.pipelines.text_to_image import TextToImagePipeline


@dataclass(frozen=True)
class EditSettings:
    """How an edit is made. Where the paper can be read in two ways, its other reading can be chosen.

    Defaults come from `benchmarks/edit_settings.py` on validation radiographs (docs/results/edits.md).

    start: "inversion" runs DDIM backwards from the image, "noise" adds noise to it (Eq. 2).
    strength: share of the schedule that is run, in (0, 1]; 1 starts from Eq. 2's z_T, which keeps almost nothing.
    clearing, clearing_guidance: strength and guidance in their place where the job's findings only go. Adding gains
        nothing by that much.
    steps: of the whole schedule.
    guidance: guidance scale.
    against: what guidance leads away from: "source", the prompt of the image as it is, or "nothing", the empty one.
    eta: Eq. 6, amplification of attention to the finding's words inside the region.
    window: mu, the share of steps that Eqs. 6 and 9 act in.
    late: that share is the last one, as Eq. 6 is printed, not the first, as the text says.
    alpha: Eq. 9's first step size.
    relative: alpha is the step's length over that of the latents, not the gradient's factor, as printed: such steps are
        less than a thousandth of the latents' length and change nothing that can be seen.
    steered: Eq. 7 scores A_path, the attention of a network that Eqs. 5 and 6 steer with its factor 1 + eta Omega, as
        printed, and not the plain network's; its gradient costs half as much again.
    floor: Eq. 5, weight left to attention outside the organs; 1 switches the gate off.
    gate: Eq. 5, on "keys", "queries" or "both".
    renormalise: Eq. 5, whether weights gated by key sum to one again.
    both_halves: Eq. 5, whether it gates both halves of guidance; else guidance multiplies what the gate does.
    feather: pixels over which the edit fades in from the region's border inwards.
    one_way: the picture changes only where the change goes in the finding's direction (`paste.one_way`).
    levelled: what becomes denser does so evenly (`paste.covering`), and no denser than the radiograph's own soft tissue
        (`paste.tissue_levels`).
    """

    start: str = "inversion"
    strength: float = 0.6
    clearing: float = 0.8
    steps: int = 50
    guidance: float = 5.5
    clearing_guidance: float = 7.5
    against: str = "source"
    eta: float = 5.0
    window: float = 0.4
    late: bool = False
    alpha: float = 0.01
    relative: bool = True
    steered: bool = False
    floor: float = 0.5
    gate: str = "keys"
    renormalise: bool = True
    both_halves: bool = True
    feather: float = 20.0
    one_way: bool = True
    levelled: bool = True

    def to_clear(self) -> EditSettings:
        """The same for a job whose findings only go."""
        return replace(self, strength=self.clearing, guidance=self.clearing_guidance)


@dataclass(frozen=True)
class Edit:
    """An edit and what it is made of.

    image: float32 (H, W) in [0, 1].
    change: float32 (H, W), what would be added everywhere; `image` has it faded in inside the region.
    levels: grey values between which `image` levels off where it is made denser; None where it does not.
    scores: Eq. 7 before each step of Eq. 9, in [0, 1].
    moved: length of each step of Eq. 9 over that of the latents.
    """

    image: np.ndarray
    change: np.ndarray
    levels: tuple[float, float] | None = None
    scores: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)


def edit_image(
    pipeline: TextToImagePipeline,
    image: np.ndarray,
    *,
    target: str,
    source: str,
    words: list[str],
    roi: np.ndarray,
    anatomy: np.ndarray,
    direction: int = 0,
    settings: EditSettings | None = None,
    seed: int = 0,
) -> Edit:
    """Edit one radiograph inside a region, so that it shows the target prompt.

    What the denoiser makes of the target is compared with what it makes of the image itself, and only the difference,
    decoded, is added to the image inside the region: fine texture that no autoencoder keeps stays as it was. Of that
    difference only what goes in the finding's direction is taken (`EditSettings.one_way`), and nothing becomes denser
    than soft tissue (`EditSettings.levelled`).

    Args:
        pipeline: with a U-ViT or a diffusers U-Net for denoiser.
        image: float (H, W) in [0, 1], the model's size.
        target: prompt in the text encoder's words.
        source: prompt of the image as it is, in the same words.
        words: words of the target that name the finding, for Eqs. 6 and 9, which have nothing to do without any.
        roi: bool (H, W), where it may change.
        anatomy: bool (H, W), the organs that hold still.
        direction: 1 where all that comes makes its place denser and all that goes made it darker, -1 for the opposite,
            0 where both happen.
        settings: defaults where None.
        seed: of the noise.

    Raises:
        MaskError: masks of another size than the image, or an empty region.
        ModelError: words that are not in the target, or settings out of range.
    """
    s = settings or EditSettings()
    check_edit(image, roi, anatomy, s)
    scheduler, timesteps = sampler(pipeline.scheduler.config, s.steps, s.strength)
    original = pipeline.encode(image[None])
    if s.start == "inversion":
        path, missed = inverted(pipeline, original, source, scheduler, timesteps)
    else:
        path, missed = noised(original, scheduler, timesteps, seed), [0.0] * len(timesteps)
    inside = latent_mask(roi, original)
    text = pipeline.encode_prompts([source if s.against == "source" else "", target])
    wanted = pipeline.encode_prompts([target])
    spans = word_spans(pipeline.tokenizer, [target], [words], pipeline.config.prompt_length)
    steering = Regulation(
        anatomy, roi, _marked(spans), organ_tokens(pipeline, target),
        organ_tokens(pipeline, source) if s.against == "source" else None, both_halves=s.both_halves, eta=s.eta,
        floor=s.floor, gate=s.gate, renormalise=s.renormalise,
    )  # fmt: skip
    latents, scores, moved = path[0], [], []
    early = sum(in_window(index, len(timesteps), s.window) for index in range(len(timesteps)))
    for index, timestep in enumerate(timesteps):
        steering.amplify = in_window(index, len(timesteps), s.window, literal=s.late)
        if s.alpha and words and index < early:
            alpha = step_size(index, early, s.alpha)
            with regulated(pipeline.denoiser, steering) if s.steered else nullcontext():
                eta = s.eta if s.steered and steering.amplify else 0.0
                latents, score, ratio = localised(
                    pipeline, latents, timestep, wanted, spans, roi, alpha, s.relative, eta
                )
            scores.append(score)
            moved.append(ratio)
        with torch.no_grad(), regulated(pipeline.denoiser, steering):
            predicted = pipeline.predict_guided(latents, timestep, text, s.guidance)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0] + missed[index]
        latents = inside * latents + (1 - inside) * path[index + 1]
    change = pipeline.decode(latents)[0] - pipeline.decode(path[-1])[0]
    change = one_way(change, roi, direction if s.one_way else 0)
    levels = None
    if s.levelled:
        change, levels = covering(change, roi), tissue_levels(image, anatomy | roi)
    return Edit(with_change(image, change, roi, s.feather, levels), change, levels, scores, moved)


def organ_tokens(pipeline: TextToImagePipeline, prompt: str) -> Tensor | None:
    """1 at the tokens of a prompt that name anatomy, as the domain knows it, (1, tokens); None where none does."""
    known = pipeline.domain.edits.words if pipeline.domain.edits else ()
    named = [w for w in known if w in prompt.lower().replace(".", " ").split()]
    if not named:
        return None
    return _marked(word_spans(pipeline.tokenizer, [prompt], [named], pipeline.config.prompt_length))


def latent_mask(roi: np.ndarray, latents: Tensor) -> Tensor:
    """1 at latent pixels that a region bool (H, W) touches, float32 (1, 1, h, w).

    Those on its border change too: with a share of them held back in every step, a region a few latent pixels wide
    could not change at all. What they do outside the region is faded away in pixels.
    """
    inside = torch.from_numpy(roi.astype(np.float32))[None, None].to(latents.device)
    return F.adaptive_max_pool2d(inside, latents.shape[-2:])


def noised(latents: Tensor, scheduler: DDIMScheduler, timesteps: Tensor, seed: int) -> list[Tensor]:
    """Eq. 2 at every timestep, with one noise: the latents as they would be on the way, then the clean ones."""
    noise = torch.randn(latents.shape, generator=seeded(seed)).to(latents.device)
    return [*(scheduler.add_noise(latents, noise, t[None]) for t in timesteps), latents]


@torch.no_grad()
def inverted(
    pipeline: TextToImagePipeline, latents: Tensor, source: str, scheduler: DDIMScheduler, timesteps: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """DDIM backwards: the latents at every timestep, then the clean ones, and what each step forwards misses.

    What DDIM's step from one point of the path misses of the next would make an edit that changes nothing drift. Added
    to the steps of an edit, it brings the image itself back exactly (after arXiv 2310.01506, where it corrects a second
    branch).
    """
    inverse = inverse_sampler(scheduler.config, scheduler.num_inference_steps)
    text = pipeline.encode_prompts([source])
    path, missed = [latents], []
    predicted = pipeline.predict_guided(latents, inverse.timesteps[0], text, 1.0)
    for timestep in inverse.timesteps[: len(timesteps)]:
        noisier = inverse.step(predicted, timestep, path[-1], return_dict=False)[0]
        predicted = pipeline.predict_guided(noisier, timestep, text, 1.0)
        missed.append(path[-1] - scheduler.step(predicted, timestep, noisier, return_dict=False)[0])
        path.append(noisier)
    return path[::-1], missed[::-1]


def check_edit(image: np.ndarray, roi: np.ndarray, anatomy: np.ndarray, s: EditSettings) -> None:
    """Raise MaskError or ModelError where an edit's inputs do not fit each other."""
    if image.ndim != 2 or roi.shape != image.shape or anatomy.shape != image.shape:
        raise MaskError(f"image {image.shape}, region {roi.shape} and organs {anatomy.shape} must have one size (H, W)")
    if not roi.any():
        raise MaskError("the region of interest is empty; name a place that the picture shows")
    if s.start not in ("inversion", "noise") or not (0 < s.strength <= 1 and 0 < s.clearing <= 1):
        raise ModelError(
            f"start {s.start!r} must be inversion or noise, and strength {s.strength} and clearing {s.clearing} must "
            "lie in (0, 1]"
        )
    if s.against not in ("source", "nothing"):
        raise ModelError(f"against {s.against!r} must be source or nothing")


def _marked(spans: Tensor) -> Tensor:
    """1 at tokens of any word, (batch, tokens), of spans (batch, words, tokens)."""
    return (spans.sum(dim=1) > 0).float()
