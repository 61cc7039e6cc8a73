"""Published text-to-image models, as diffusers' folders hold them, behind the interface of `TextToImagePipeline`.

Stable Diffusion 1 and 2 and XL and what is tuned from them, such as RoentGen and RadEdit, PixArt and Sana: each has its
own text encoders and inputs of the denoiser. Prompts are given to them as they are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from skiagraph.devices import usable_device
from skiagraph.domains.domain import DEFAULT, Domain, load_domain, model_domain
from skiagraph.errors import ModelError
from skiagraph.models.registry import DEFAULT_MODEL, loading, model_folder, require_kind
from skiagraph.models.text import TextStates, tokenised
from skiagraph.models.words import own_length
from skiagraph.pipelines.text_to_image import TextToImagePipeline, quiet_loading

UNCHECKED = {"safety_checker": None, "requires_safety_checker": False}
"""Arguments of Stable Diffusion's pipelines, whose checker takes radiographs for nudity and blackens them."""

PIXART_TOKENS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}
"""Text tokens that the models were trained with; their tokenizers know more."""

SANA_TOKENS = 300


class StableDiffusion(TextToImagePipeline):
    """Stable Diffusion 1 or 2: states of all positions, from a forward without mask unless the encoder wants one."""

    def text_states(self, prompts: Sequence[str]) -> TextStates:
        encoder, length = self.text_encoder, self.config.prompt_length
        ids, mask, truncated = tokenised(encoder, self.tokenizer, prompts, length)
        masked = {"attention_mask": mask} if getattr(encoder.config, "use_attention_mask", False) else {}
        states = encoder(input_ids=ids, **masked).last_hidden_state
        return TextStates(states.to(self.denoiser.dtype), mask.bool(), ids, truncated)


class StableDiffusionXL(TextToImagePipeline):
    """Stable Diffusion XL: two text encoders, a pooled vector, and the picture's size (arXiv 2307.01952).

    Args:
        text_encoder_2: its states stand beside the first's, and it gives the vector.
        tokenizer_2: of the second encoder; it splits words as the first does.
        zero_empty: whether the empty prompt is zeros. All others are as in `TextToImagePipeline`.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->denoiser->vae"

    def __init__(
        self, denoiser: nn.Module, vae: nn.Module, text_encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
        scheduler: SchedulerMixin, text_encoder_2: PreTrainedModel, tokenizer_2: PreTrainedTokenizerBase,
        zero_empty: bool = True, prompt_length: int = 77, prompt_style: str = "report", colour: bool = False,
        perceptual_vae: nn.Module | None = None, domain: str | Mapping[str, Any] = "chest",
        enlarger: nn.Module | None = None,
    ) -> None:  # fmt: skip
        parts = denoiser, vae, text_encoder, tokenizer, scheduler
        super().__init__(*parts, prompt_length, prompt_style, colour, perceptual_vae, domain, enlarger)
        self.register_modules(text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2)
        self.register_to_config(zero_empty=zero_empty)

    def text_states(self, prompts: Sequence[str]) -> TextStates:
        states, length = [], self.config.prompt_length
        for encoder, tokenizer in ((self.text_encoder, self.tokenizer), (self.text_encoder_2, self.tokenizer_2)):
            ids, mask, truncated = tokenised(encoder, tokenizer, prompts, length)
            found = encoder(input_ids=ids, output_hidden_states=True)
            states.append(found.hidden_states[-2])
        states, pooled = torch.cat(states, dim=-1), found.text_embeds
        if self.config.zero_empty:
            said = torch.tensor([bool(prompt) for prompt in prompts], device=states.device)
            states, pooled = states * said[:, None, None], pooled * said[:, None]
        dtype = self.denoiser.dtype
        return TextStates(states.to(dtype), mask.bool(), ids, truncated, pooled.to(dtype))

    def predict(self, model_input: Tensor, timestep: Tensor, text: TextStates) -> Tensor:
        side = self.image_side
        sizes = text.pooled.new_tensor([side, side, 0, 0, side, side]).expand(len(model_input), -1)
        added = {"text_embeds": text.pooled, "time_ids": sizes}
        return self.denoiser(model_input, timestep, text.states, added_cond_kwargs=added).sample


class PixArt(TextToImagePipeline):
    """PixArt-alpha or -sigma: a transformer over T5's states (arXiv 2310.00426), prompts in lower case."""

    def in_model_words(self, prompt: str | Sequence[str]) -> list[str]:
        return [text.lower().strip() for text in super().in_model_words(prompt)]

    def predict(self, model_input: Tensor, timestep: Tensor, text: TextStates) -> Tensor:
        more = {"added_cond_kwargs": self._shape(model_input)}
        return self._transformed(model_input, timestep, text, **more)

    def _transformed(self, model_input: Tensor, timestep: Tensor, text: TextStates, **more: Any) -> Tensor:
        """Without the variance, which some predict besides."""
        return self.denoiser(
            model_input, encoder_hidden_states=text.states, encoder_attention_mask=text.mask.to(model_input.dtype),
            timestep=torch.as_tensor(timestep, device=model_input.device).expand(len(model_input)), **more,
        ).sample[:, : model_input.shape[1]]  # fmt: skip

    def _shape(self, model_input: Tensor) -> dict[str, Tensor | None]:
        if not getattr(self.denoiser, "use_additional_conditions", False):
            return {"resolution": None, "aspect_ratio": None}
        side = model_input.new_full((len(model_input), 2), self.image_side)
        return {"resolution": side, "aspect_ratio": model_input.new_ones(len(model_input), 1)}


class Sana(PixArt):
    """Sana: linear attention over a deeply compressed latent, flow matching (arXiv 2410.10629); generation alone."""

    def predict(self, model_input: Tensor, timestep: Tensor, text: TextStates) -> Tensor:
        return self._transformed(model_input, timestep * self.denoiser.config.timestep_scale, text)


def load_pipeline(
    name_or_folder: str | Path = DEFAULT_MODEL, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> TextToImagePipeline:
    """A text-to-image model: one of ours by name or folder, or a published one by folder or Hub id (`ADOPTED`).

    Raises:
        ModelError: no such model or device, one of another kind or whose tokenizer has no length, or missing or damaged
            files; nothing is downloaded but within `skiagraph.models.hub.downloads`.
    """
    folder = model_folder(name_or_folder)
    kind = require_kind(folder, TextToImagePipeline.__name__, *ADOPTED, purpose="make images from text")
    if kind == TextToImagePipeline.__name__:
        return TextToImagePipeline.load(folder, dtype=dtype, device=device)
    place = usable_device(device)
    return adopt(load_published(folder, kind, dtype), model_domain(folder)).to(place)


def load_published(folder: Path, kind: str, dtype: torch.dtype) -> DiffusionPipeline:
    """Diffusers' own pipeline of a folder of `model_folder`, whose class `kind` names, without a safety checker.

    Raises:
        ModelError: it does not load.
    """
    unchecked = UNCHECKED if kind in ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline") else {}
    halves = any(not Path(str(file).replace(".fp16.", ".")).exists() for file in folder.glob("*/*.fp16.safetensors"))
    with loading(folder), quiet_loading():
        pipeline = getattr(diffusers, kind).from_pretrained(
            folder, torch_dtype=dtype, variant="fp16" if halves else None, local_files_only=True, use_safetensors=True,
            **unchecked,
        )  # fmt: skip
        if dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
            pipeline.vae.to(torch.float32)  # its numbers grow beyond half precision's
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def adopt(pipeline: DiffusionPipeline, domain: Domain | None = None) -> TextToImagePipeline:
    """A pipeline of ours as it is, one of `ADOPTED` behind our interface, with the same parts.

    Args:
        pipeline: ours or diffusers'.
        domain: what diffusers' makes pictures of; the chest where None.

    Raises:
        ModelError: a pipeline of another kind, or a tokenizer without a length.
    """
    if isinstance(pipeline, TextToImagePipeline):
        return pipeline
    kind = type(pipeline).__name__
    if kind not in ADOPTED:
        raise ModelError(f"{kind} does not make images from text here; {', '.join(ADOPTED)} do")
    domain = domain or load_domain(DEFAULT)
    return ADOPTED[kind](pipeline, colour=domain.colour, domain=domain.stored)


def _stable_diffusion(given: Any, **of: Any) -> TextToImagePipeline:
    return StableDiffusion(
        given.unet, given.vae, given.text_encoder, given.tokenizer, given.scheduler,
        prompt_length=own_length(given.tokenizer), **of,
    )  # fmt: skip


def _stable_diffusion_xl(given: Any, **of: Any) -> TextToImagePipeline:
    return StableDiffusionXL(
        given.unet, given.vae, given.text_encoder, given.tokenizer, given.scheduler,
        text_encoder_2=given.text_encoder_2, tokenizer_2=given.tokenizer_2,
        zero_empty=given.config.force_zeros_for_empty_prompt, prompt_length=own_length(given.tokenizer), **of,
    )  # fmt: skip


def _pixart(given: Any, **of: Any) -> TextToImagePipeline:
    return PixArt(
        given.transformer, given.vae, given.text_encoder, given.tokenizer, given.scheduler,
        prompt_length=PIXART_TOKENS[type(given).__name__], **of,
    )  # fmt: skip


def _sana(given: Any, **of: Any) -> TextToImagePipeline:
    given.tokenizer.padding_side = "right"
    return Sana(
        given.transformer, given.vae, given.text_encoder, given.tokenizer, given.scheduler, prompt_length=SANA_TOKENS,
        **of,
    )  # fmt: skip


ADOPTED = {
    "StableDiffusionPipeline": _stable_diffusion,
    "StableDiffusionXLPipeline": _stable_diffusion_xl,
    "PixArtAlphaPipeline": _pixart,
    "PixArtSigmaPipeline": _pixart,
    "SanaPipeline": _sana,
}
"""Diffusers' pipelines that `adopt` takes, by class."""
