"""Report or prompt to radiograph: Chest-Diffusion (arXiv 2407.00752) as a diffusers pipeline."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image, fromarray
from torch import Generator, Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from skiagraph.attention.adapter import adapter_of
from skiagraph.devices import seeded, usable_device
from skiagraph.domains.domain import Domain, load_domain
from skiagraph.errors import ModelError, ReportError
from skiagraph.files import write_json
from skiagraph.models.enlarger import Enlarger
from skiagraph.models.registry import DEFAULT_MODEL, loading, model_folder, require_kind
from skiagraph.models.text import TextStates, encode_text, load_text_model
from skiagraph.models.uvit import UViT2DModel
from skiagraph.pipelines.schedulers import check_scheduler

DECODED_AT_ONCE = 8

OUTPUT_TYPES = ("np", "pt", "pil", "latent")


@dataclass
class TextToImageOutput(BaseOutput):
    """Synthetic radiographs.

    images: by `output_type`: "np", float32 (n, H, W) in [0, 1], (n, H, W, 3) of a colour model; "pt", a tensor
        (n, channels, H, W) in [0, 1]; "pil", a list of pictures; "latent", scaled latents (n, c, h, w).
    prompts: what the text encoder was given for each image.
    truncated: for each image, whether its prompt was cut off.
    """

    images: np.ndarray | Tensor | list[Image]
    prompts: list[str]
    truncated: list[bool]


class TextToImagePipeline(DiffusionPipeline):
    """U-ViT denoiser, autoencoder, text encoder and any diffusers scheduler.

    Args:
        denoiser: predicts what the scheduler's `prediction_type` names.
        vae: diffusers' AutoencoderKL or `SmallAutoencoderKL`.
        text_encoder: transformers text model; its last hidden states condition the denoiser.
        tokenizer: of the text encoder.
        scheduler: any diffusers scheduler of a beta schedule (`skiagraph.pipelines.schedulers`).
        prompt_length: text tokens the denoiser was trained with.
        prompt_style: "report" gives prompts to the encoder as they are; "findings" first reads them as a report and
            states its findings in the words that the model was trained on (`Domain.prompt_of`).
        colour: whether images are (n, H, W, 3); if not, what a three-channel autoencoder makes is averaged to grey.
        perceptual_vae: draws generated latents in the place of `vae`, whose decoder is faithful: best where a real
            picture is to come back, and without the detail that latents do not hold where there is none.
        domain: what the pictures are of, as `load_domain` takes it.
        enlarger: gives generated pictures twice the side where asked to.
    """

    model_cpu_offload_seq = "text_encoder->denoiser->vae->perceptual_vae->enlarger"
    _optional_components: ClassVar[list[str]] = ["perceptual_vae", "enlarger"]

    def __init__(
        self,
        denoiser: UViT2DModel,
        vae: nn.Module,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        scheduler: SchedulerMixin,
        prompt_length: int = 256,
        prompt_style: str = "report",
        colour: bool = False,
        perceptual_vae: nn.Module | None = None,
        domain: str | Mapping[str, Any] = "chest",
        enlarger: Enlarger | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            denoiser=denoiser, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler,
            perceptual_vae=perceptual_vae, enlarger=enlarger,
        )  # fmt: skip
        self.register_to_config(prompt_length=prompt_length, prompt_style=prompt_style, colour=colour, domain=domain)

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path = DEFAULT_MODEL,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> TextToImagePipeline:
        """A shipped model by name or a local folder, checked to be whole; nothing is downloaded.

        Raises:
            ModelError: no such model or device, a model of another kind, or a missing, damaged or foreign weight file.
        """
        place = usable_device(device)
        folder = model_folder(name_or_folder)
        require_kind(folder, "TextToImagePipeline", purpose="make images from text")
        with loading(folder), quiet_loading():
            return cls.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(place, dtype)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> TextToImagePipeline:
        """As diffusers does, but for a local folder's text encoder, which gets no pooling layer of random numbers."""
        part = Path(folder) / "text_encoder"
        if "text_encoder" not in kwargs and part.is_dir():
            kwargs["text_encoder"] = load_text_model(part).to(kwargs.get("torch_dtype"))
        return super().from_pretrained(folder, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save as diffusers does, but for two things in its JSON files.

        The tokenizer's class has the name that every transformers release knows, and the folders that the parts were
        loaded from are not named.
        """
        super().save_pretrained(save_directory, **kwargs)
        folder = Path(save_directory)
        for path in (*folder.glob("*.json"), *folder.glob("*/*config.json")):
            text = path.read_text(encoding="utf-8").replace("TokenizersBackend", "PreTrainedTokenizerFast")
            stored = {name: value for name, value in json.loads(text).items() if name != "_name_or_path"}
            write_json(path, stored)

    @property
    def domain(self) -> Domain:
        """What its pictures are of."""
        return load_domain(self.config.domain)

    @property
    def image_side(self) -> int:
        """Side in pixels of the images it makes."""
        config = self.vae.config
        blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels") or ()
        return self.denoiser.config.sample_size * (getattr(self.vae, "downscale", None) or 2 ** (len(blocks) - 1))

    @property
    def paints(self) -> bool:
        """Whether the denoiser is shown a mask and a masked image besides the latents."""
        return self.denoiser.config.in_channels > self.vae.config.latent_channels

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        naming: Sequence[str] = (),
        negative_prompt: str | Sequence[str] = "",
        num_inference_steps: int = 50,
        guidance_scale: float = 2.0,
        num_images_per_prompt: int = 1,
        seeds: Sequence[int] | None = None,
        generator: Generator | list[Generator] | None = None,
        latents: Tensor | None = None,
        enlarge: bool = False,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[[TextToImagePipeline, int, int, dict], dict] | None = None,
    ) -> TextToImageOutput | tuple:
        """Generate radiographs.

        Args:
            prompt: one report or prompt, or a batch.
            naming: words that every prompt is to hold besides, given to the text encoder as they are; those a prompt
                already has are not repeated.
            negative_prompt: what to lead away from; one for all, or one per prompt. Empty is plain guidance.
            num_inference_steps: denoising steps, at least 1.
            guidance_scale: w in eps_u + w (eps_c - eps_u); 1 switches guidance off.
            num_images_per_prompt: images of each prompt, adjacent in the output.
            seeds: one per image; an image depends on its own seed and not on the batch it is in.
            generator: torch generator(s) instead of seeds, as in diffusers.
            latents: starting noise (n, c, h, w) instead of seeds.
            enlarge: make pictures of twice `image_side`, by the model's enlarger.
            output_type: "np", "pt", "pil" or "latent"; see `TextToImageOutput`.
            return_dict: else the output's values as a tuple, as in diffusers.
            callback_on_step_end: gets (pipeline, step index, timestep, {"latents": ...}); may return new latents.

        Raises:
            ReportError: an empty prompt, or one that names nothing the model knows.
            ModelError: counts of prompts, negative prompts and seeds that do not fit, a seed out of range, a scheduler
                of another kind of model, an unknown `output_type`, or `enlarge` where the model has no enlarger.
        """
        if output_type not in OUTPUT_TYPES:
            raise ModelError(f"output_type {output_type!r} is unknown; known: {', '.join(OUTPUT_TYPES)}")
        if enlarge:
            self.check_enlarges()
        check_scheduler(self.scheduler)
        worded = [with_words(p, naming) for p in self.in_model_words(prompt)]
        prompts = [p for p in worded for _ in range(num_images_per_prompt)]
        negatives = self._negatives(negative_prompt, len(prompts), num_images_per_prompt)
        guided = guidance_scale != 1
        text = self.encode_prompts(negatives + prompts if guided else prompts)

        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        generators = _generators(seeds, generator, len(prompts))
        latents = self._start(latents, len(prompts), generators)
        stochastic = "generator" in inspect.signature(self.scheduler.step).parameters
        noise = {"generator": generators} if stochastic else {}
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            for index, timestep in enumerate(self.scheduler.timesteps):
                predicted = self.predict_guided(latents, timestep, text, guidance_scale)
                latents = self.scheduler.step(predicted, timestep, latents, **noise, return_dict=False)[0]
                if callback_on_step_end is not None:
                    latents = callback_on_step_end(self, index, timestep, {"latents": latents}).get("latents", latents)
                bar.update()
        images = latents
        if output_type != "latent":
            drawn = self.draw(latents, generators)
            images = _as_type(self.enlarge(drawn, generators) if enlarge else drawn, output_type)
        self.maybe_free_model_hooks()
        output = TextToImageOutput(images=images, prompts=prompts, truncated=list(text.truncated[-len(prompts) :]))
        return output if return_dict else output.to_tuple()

    def draw(self, latents: Tensor, generators: list[Generator] | Generator | None = None) -> np.ndarray:
        """Images as `decode` gives them of generated latents, by the perceptual decoder where the model has one.

        The generators, one for all or one each, make its grain; without them, the grain of all is alike.
        """
        return self._decoded(latents, self.vae if self.perceptual_vae is None else self.perceptual_vae, generators)

    def check_enlarges(self) -> None:
        """Raise ModelError where the model has no enlarger."""
        if self.enlarger is None:
            raise ModelError(f"this model makes pictures of {self.image_side} px and has no enlarger; leave it out")

    @torch.no_grad()
    def enlarge(self, images: np.ndarray, generators: list[Generator] | Generator | None = None) -> np.ndarray:
        """Pictures float32 (n, 2 H, 2 W) in [0, 1] of generated ones (n, H, W); the generators make their grain.

        Raises:
            ModelError: the model has no enlarger.
        """
        self.check_enlarges()
        large = []
        for index, image in enumerate(torch.from_numpy(images)[:, None]):
            own = generators[index] if isinstance(generators, list) else generators
            pixels = (image[None] * 2 - 1).to(self._execution_device, self.enlarger.dtype)
            large.append(self.enlarger(pixels, own)[0, 0].float())
        return (torch.stack(large) / 2 + 0.5).clamp(0, 1).cpu().numpy()

    def decode(self, latents: Tensor) -> np.ndarray:
        """Float32 images (n, H, W), or (n, H, W, 3), in [0, 1] of scaled latents (n, c, h, w), faithfully."""
        return self._decoded(latents, self.vae)

    @torch.no_grad()
    def _decoded(
        self, latents: Tensor, vae: nn.Module, generators: list[Generator] | Generator | None = None
    ) -> np.ndarray:
        config = vae.config
        latents = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
        latents = latents.to(vae.dtype)
        images = []
        for start in range(0, len(latents), DECODED_AT_ONCE):
            own = generators[start : start + DECODED_AT_ONCE] if isinstance(generators, list) else generators
            part = latents[start : start + DECODED_AT_ONCE]
            grain = {"generator": own} if vae is self.perceptual_vae else {}
            images.append(vae.decode(part, return_dict=False, **grain)[0])
        images = torch.cat(images).float()
        images = images.movedim(1, -1) if self.config.colour else images.mean(dim=1)
        return (images / 2 + 0.5).clamp(0, 1).cpu().numpy()

    @torch.no_grad()
    def encode(self, images: np.ndarray) -> Tensor:
        """Scaled latents float32 (n, c, h, w), posterior means, of images in [0, 1] as `decode` gives them."""
        config = self.vae.config
        pixels = torch.from_numpy(np.asarray(images, np.float32)) * 2 - 1
        pixels = pixels.movedim(-1, 1) if self.config.colour else pixels[:, None]
        pixels = pixels.expand(-1, config.in_channels, -1, -1).to(self._execution_device, self.vae.dtype)
        means = torch.cat([self.vae.encode(chunk).latent_dist.mode() for chunk in pixels.split(8)]).float()
        return (means - (config.get("shift_factor") or 0.0)) * config.scaling_factor

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> TextStates:
        """Text states of prompts, which are given to the text encoder as they are; "" is the empty prompt."""
        return self.text_states(prompts)

    def text_states(self, prompts: Sequence[str]) -> TextStates:
        """What `encode_prompts` gives, with the gradient of the text encoder."""
        return encode_text(
            self.text_encoder, self.tokenizer, list(prompts), max_length=self.config.prompt_length,
            device=self._execution_device, dtype=self.denoiser.dtype,
        )  # fmt: skip

    def in_model_words(self, prompt: str | Sequence[str]) -> list[str]:
        """What the text encoder is given for each report or prompt; see `prompt_style`.

        Raises:
            ReportError: an empty prompt, or one that names nothing the model knows.
        """
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not texts or any(not isinstance(t, str) or not t.strip() for t in texts):
            raise ReportError(
                "empty report or prompt; write at least one finding, such as 'Small left pleural effusion.'"
            )
        return [self._worded(t) for t in texts]

    def _worded(self, text: str) -> str:
        if self.config.prompt_style == "report":
            return text
        worded = self.domain.prompt_of(text)
        if not worded:
            raise ReportError(
                f"no finding, view, age or sex recognised in {text[:80]!r}; name one, such as 'Cardiomegaly. PA view.'"
            )
        return worded

    def _negatives(self, negative: str | Sequence[str], count: int, repeats: int) -> list[str]:
        texts = [negative] * count if isinstance(negative, str) else [t for t in negative for _ in range(repeats)]
        if len(texts) != count:
            raise ModelError(
                f"{len(texts) // repeats} negative prompts for {count // repeats} prompts; give one, or as many"
            )
        return [self._worded(t) if t.strip() else "" for t in texts]

    def _start(self, latents: Tensor | None, count: int, generators: list[Generator] | Generator | None) -> Tensor:
        c = self.denoiser.config
        if self.paints:
            raise ModelError("this model paints inside masks of images; use it with `skiagraph augment`")
        shape = (count, c.in_channels, c.sample_size, c.sample_size)
        if latents is None:
            latents = randn_tensor(shape, generator=generators, device=self._execution_device, dtype=torch.float32)
        elif tuple(latents.shape) != shape:
            raise ModelError(f"latents are {tuple(latents.shape)}, expected {shape}")
        # Latents stay float32 whatever the networks' dtype: half precision in the sampler's small steps shows as noise.
        return latents.to(self._execution_device, torch.float32) * self.scheduler.init_noise_sigma

    def predict_guided(
        self, latents: Tensor, timestep: Tensor, text: TextStates, scale: float, beside: Tensor | None = None
    ) -> Tensor:
        """What the scheduler is given: the denoiser's prediction for latents (n, c, h, w), guided.

        Args:
            latents: float32, at `timestep`.
            timestep: of the scheduler.
            text: states of the negative prompts and then of the prompts, 2 n rows; n rows mean no guidance.
            scale: guidance scale.
            beside: further channels (n, k, h, w) of a denoiser that predicts fewer channels than it takes.
        """
        repeats = len(text.states) // len(latents)
        model_input = self.scheduler.scale_model_input(latents, timestep)
        if beside is not None:
            model_input = torch.cat([model_input, beside], dim=1)
        predicted = self.predict(model_input.to(self.denoiser.dtype).repeat(repeats, 1, 1, 1), timestep, text).float()
        if repeats == 1:
            return predicted
        free, conditional = predicted.chunk(2)
        return free + scale * (conditional - free)

    def predict(self, model_input: Tensor, timestep: Tensor, text: TextStates) -> Tensor:
        """The denoiser's output (n, c, h, w) for what the scheduler makes its input (n, k, h, w) and n rows of text."""
        # Stable Diffusion's U-Nets are trained without a mask of padded text.
        mask = text.mask if adapter_of(self.denoiser).takes_mask else None
        return self.denoiser(model_input, timestep, text.states, encoder_attention_mask=mask).sample


def with_words(prompt: str, words: Sequence[str]) -> str:
    """The prompt with those of the words in front that it lacks: what is cut off a long prompt is its end."""
    return ". ".join([w for w in words if w.lower() not in prompt.lower()] + [prompt])


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without diffusers' loading bar, and its advice to keep no modules at all in float32."""
    shown, verbosity = diffusers_logging.is_progress_bar_enabled(), diffusers_logging.get_verbosity()
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        if shown:
            diffusers_logging.enable_progress_bar()


def _as_type(images: np.ndarray, output_type: str) -> np.ndarray | Tensor | list[Image]:
    """Images (n, H, W) or (n, H, W, 3) in [0, 1] as a caller wants them."""
    if output_type == "np":
        return images
    if output_type == "pt":
        return torch.from_numpy(images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1))
    return [fromarray(np.round(image * 255).astype(np.uint8)) for image in images]


def _generators(seeds: Sequence[int] | None, generator: Any, count: int) -> list[Generator] | Generator | None:
    if seeds is None:
        return generator
    if len(seeds) != count:
        raise ModelError(f"{len(seeds)} seeds for {count} images; give one seed per image")
    return [seeded(int(seed)) for seed in seeds]
