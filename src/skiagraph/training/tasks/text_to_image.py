"""Training of Chest-Diffusion: a U-ViT denoiser on cached latents, conditioned on captions (arXiv 2407.00752)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from torch import Generator, Tensor, nn
from transformers import PreTrainedTokenizerBase

from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.grounding import grounding_loss, pointing_game, threshold_iou
from skiagraph.attention.heatmaps import capture_words, unit_maximum
from skiagraph.data.captions import Fact, Phrase, compose
from skiagraph.data.datasets import Record
from skiagraph.domains.domain import Cohorts, Domain, load_domain
from skiagraph.errors import RecipeError
from skiagraph.files import weight_hashes
from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.models.hub import hub_folder
from skiagraph.models.registry import load_component, model_folder
from skiagraph.models.text import load_text_encoder, small_text_encoder, train_tokenizer
from skiagraph.models.uvit import PRESETS, UViT2DModel
from skiagraph.pipelines.organs import THRESHOLDS, lung_finder
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.training.images import random_indices, record_weight, records_of
from skiagraph.training.prompts import NO_REGION, PromptBatch, tokenize_captions
from skiagraph.training.recipe import DenoiserModel, TextModel, TextToImageRecipe
from skiagraph.training.views import CROP, FULL, ViewBatch, Views, make_views

VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)


class ConditionalDenoiser(nn.Module):
    """The denoiser and the text encoder trained along with it; a frozen encoder stays outside."""

    def __init__(self, denoiser: UViT2DModel, text_encoder: nn.Module | None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, prompts: PromptBatch, frozen: nn.Module | None) -> Tensor:
        if frozen is None:
            states = self.text_encoder(input_ids=prompts.ids, attention_mask=prompts.mask.long()).last_hidden_state
        else:
            with torch.no_grad():
                states = frozen(input_ids=prompts.ids, attention_mask=prompts.mask.long()).last_hidden_state
        return self.denoiser(noisy, timesteps, states, prompts.mask).sample


def take_over(
    model: ConditionalDenoiser, denoiser: dict[str, Tensor], trained: TextToImagePipeline, name_or_folder: str
) -> None:
    """Load a trained pipeline's weights: `denoiser`, made to fit, and those of a text encoder that is trained along.

    Raises:
        RecipeError: other sizes.
    """
    try:
        model.denoiser.load_state_dict(denoiser)
        if model.text_encoder is not None:
            model.text_encoder.load_state_dict(trained.text_encoder.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"start_from {name_or_folder} has other sizes than the recipe: {reason}") from error


def training_scheduler(prediction_type: str) -> DDPMScheduler:
    """Stable Diffusion's noise schedule, which every denoiser here is trained on."""
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction_type,
        clip_sample=False,
    )  # fmt: skip


def denoising_error(
    predict: Callable[[Tensor, Tensor], Tensor], scheduler: DDPMScheduler, latents: Tensor, timesteps: Tensor,
    generator: Generator,
) -> Tensor:  # fmt: skip
    """Squared error (n, c, h, w) of what `predict` makes of noisy latents and timesteps (n,), by prediction type."""
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    timesteps = timesteps.to(latents.device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
    return (predict(noisy, timesteps).float() - target).square()


class TextToImageTask:
    """Noise or velocity prediction, plus a loss that makes the words of localised phrases point to their region."""

    def __init__(self, recipe: TextToImageRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device, self.domain = recipe, device, load_domain(recipe.domain)
        self.autoencoder = load_component(recipe.autoencoder).to(device).eval().requires_grad_(False)
        self.scheduler = training_scheduler(recipe.prediction_type)
        self.tokenizer, self.frozen_text, trained_text, text_dim = text_parts(recipe.text, self.domain.language())
        self.train, self.val, self.weights = self._views(cache)
        channels, side = self._latent_shape()
        denoiser = UViT2DModel(
            **denoiser_sizes(recipe.denoiser), sample_size=side, in_channels=channels, text_dim=text_dim,
            text_tokens=recipe.text.max_length,
        )  # fmt: skip
        self.model = ConditionalDenoiser(denoiser, trained_text)
        if recipe.start_from is not None:
            self._start_from(recipe.start_from)
        self.loss_weights = pixel_weights(self.autoencoder, recipe.gain_power)

    def to(self, device: torch.device) -> None:
        self.device = device
        self.loss_weights = self.loss_weights.to(device)
        self.autoencoder.to(device)
        self.frozen_text = self.frozen_text.to(device) if self.frozen_text else None

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = random_indices(len(self.weights), batch_size, generator, self.weights)
        kinds = self._random_kinds(batch_size, generator)
        rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        views = self.train.batch(chosen, kinds, generator)
        facts = self._facts(self.train_facts, chosen, kinds, views)
        captions = [self._random_caption(int(i), f, int(k), rng) for i, f, k in zip(chosen, facts, kinds, strict=True)]
        prompts = self._prompts(captions)
        latents = self._latents(views.moments, generator)
        timesteps = torch.randint(self.scheduler.config.num_train_timesteps, (batch_size,), generator=generator)
        regions = phrase_regions(views.regions.to(self.device), prompts.region)
        if self.recipe.grounding_weight == 0:
            denoising = self._denoising_loss(model, latents, timesteps, prompts, generator, views.counted)
            return denoising, {"denoising": denoising}
        denoiser = getattr(model, "module", model).denoiser
        with capture_words(denoiser, prompts.spans, adapter_of(denoiser).pointing) as captured:
            denoising = self._denoising_loss(model, latents, timesteps, prompts, generator, views.counted)
        maps = torch.stack(list(captured.mean().values())).mean(dim=0)
        grounding = grounding_loss(maps, _match(regions, maps))
        total = denoising + self.recipe.grounding_weight * grounding
        return total, {"denoising": denoising, "grounding": grounding}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Denoising loss and, per layer, how well words of unseen patients point to their region."""
        count = len(self.val.scores)
        chosen = torch.arange(0, count, max(1, count // 160))
        rng = random.Random(0)
        captions = [self._caption(i, self.val_facts[i], self.val_reports, rng, 0.0) for i in chosen.tolist()]
        generator = Generator().manual_seed(0)
        losses, scores = [], _GroundingScores(adapter_of(model.denoiser).pointing, self.domain)
        for number, part in enumerate(chosen.split(32)):
            prompts = self._prompts(captions[32 * number : 32 * number + len(part)])
            views = self.val.batch(part, torch.full_like(part, FULL), generator)
            latents = self._latents(views.moments, generator)
            step = VALIDATION_TIMESTEPS[number % len(VALIDATION_TIMESTEPS)]
            timesteps = torch.full((len(latents),), step)
            with capture_words(model.denoiser, prompts.spans) as captured:
                losses.append(self._denoising_loss(model, latents, timesteps, prompts, generator, views.counted))
            regions = phrase_regions(views.regions.to(self.device), prompts.region)
            scores.add(captured.mean(), prompts, regions)
        return {"val_denoising": float(torch.stack(losses).mean()), **scores.summary()}

    def export(self, model: nn.Module, folder: Path) -> None:
        text_encoder = model.text_encoder if self.frozen_text is None else self.frozen_text
        sampler = DPMSolverMultistepScheduler.from_config(self.scheduler.config, algorithm_type=self.recipe.sampler)
        pipeline = TextToImagePipeline(
            denoiser=deepcopy(model.denoiser),  # copies, for half precision is the export's alone
            vae=deepcopy(self.autoencoder),
            perceptual_vae=load_component(self.recipe.perceptual_decoder) if self.recipe.perceptual_decoder else None,
            text_encoder=deepcopy(text_encoder),
            tokenizer=self.tokenizer,
            scheduler=sampler,
            prompt_length=self.recipe.text.max_length,
            prompt_style="findings" if self.frozen_text is None else "report",
            colour=self.domain.colour,
            domain=self.domain.stored,
        )
        pipeline.to(dtype=torch.float16).save_pretrained(folder)

    def _start_from(self, name_or_folder: str) -> None:
        """Take over a trained model's denoiser, tokenizer and, where it is trained along, text encoder."""
        trained = TextToImagePipeline.load(name_or_folder)
        take_over(self.model, trained.denoiser.state_dict(), trained, name_or_folder)
        self.tokenizer = trained.tokenizer

    def _denoising_loss(
        self, model: nn.Module, latents: Tensor, timesteps: Tensor, prompts: PromptBatch, generator: Generator,
        counted: Tensor,
    ) -> Tensor:  # fmt: skip
        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            return model(noisy, steps, prompts, self.frozen_text)

        error = denoising_error(predict, self.scheduler, latents, timesteps, generator)
        return (error * self.loss_weights * counted.to(self.device)).mean()

    @property
    def segmenter(self) -> str | None:
        """What finds regions: the recipe's where it names one, or else the domain's."""
        captions = self.recipe.captions
        return captions.segmenter if "segmenter" in captions.model_fields_set else self.domain.segmenter

    def _latent_shape(self) -> tuple[int, int]:
        """Channels and side of the latents."""
        moments = self.val.batch(
            torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), Generator()
        ).moments
        return moments.shape[1] // 2, moments.shape[-1]

    def _latents(self, moments: Tensor, generator: Generator) -> Tensor:
        mean, logvar = moments.float().to(self.device).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator).to(self.device)
        sample = mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * noise
        config = self.autoencoder.config
        return (sample - (config.get("shift_factor") or 0.0)) * config.scaling_factor

    def _prompts(self, captions: list[list[Phrase]]) -> PromptBatch:
        return (
            tokenize_captions(self.tokenizer, captions, self.recipe.text.max_length, self.domain.regions)
            .trimmed()
            .to(self.device)
        )

    def _random_kinds(self, batch_size: int, generator: Generator) -> Tensor:
        c = self.recipe.captions
        whole = 1 - c.crop_share
        shares = torch.tensor([whole * (1 - c.moved_share), whole * c.moved_share, c.crop_share])
        return torch.multinomial(shares, batch_size, replacement=True, generator=generator)

    def _facts(self, full: list[list[Fact]], chosen: Tensor, kinds: Tensor, views: ViewBatch) -> list[list[Fact]]:
        shown = [dict(zip(self.domain.regions, row, strict=True)) for row in views.shown.tolist()]
        rows = zip(chosen.tolist(), kinds.tolist(), shown, strict=True)
        return [self.domain.in_crop(full[i], shares) if kind == CROP else full[i] for i, kind, shares in rows]

    def _random_caption(self, index: int, facts: list[Fact], kind: int, rng: random.Random) -> list[Phrase]:
        if rng.random() < self.recipe.unconditional:
            return []
        reports = () if kind == CROP else self.reports
        return self._caption(index, facts, reports, rng, self.recipe.captions.phrase_dropout)

    def _caption(
        self, index: int, facts: list[Fact], reports: Sequence[str | None], rng: random.Random, dropout: float
    ) -> list[Phrase]:
        """The report for an encoder that reads reports, where there is one; else the facts."""
        if reports and reports[index] and self.frozen_text is not None:
            return [Phrase(reports[index])]
        return compose(facts, rng, dropout, self.domain.words)

    def _views(self, cache: Path) -> tuple[Views, Views, Tensor]:
        data, recipe = self.recipe.data, self.recipe
        find = lung_finder(self.segmenter, self.domain, self.device)
        train, val = (records_of(recipe, split) for split in ("train", "val"))
        domain = replace(self.domain, markers=None) if recipe.learn_markers else self.domain

        def views(name: str, records: list[Record], seed: int, cohorts: Cohorts | None = None) -> Views:
            return make_views(
                records, data.image_size, data.fit, self.autoencoder, find, cohorts, seed, domain,
                cache=cache / f"{name}.safetensors", identity=self._views_identity(records, seed),
            )  # fmt: skip

        train_views = views("train", train, recipe.seed)
        val_views = views("val", val, recipe.seed + 1, train_views.cohorts)
        self.train_facts, self.val_facts = (
            [self.domain.facts(r, s) for r, s in zip(records, of.scores, strict=True)]
            for records, of in ((train, train_views), (val, val_views))
        )
        self.reports, self.val_reports = [r.report for r in train], [r.report for r in val]
        weights = torch.tensor([record_weight(r, recipe.sampling) for r in train])
        return train_views, val_views, weights

    def _views_identity(self, records: list[Record], seed: int) -> str:
        """What cached views depend on: images, lungs and, unless encoding is done anew, the autoencoder."""
        data, segmenter = self.recipe.data, self.segmenter
        parts: list[Any] = [[(r.key, r.path.stat().st_size) for r in records], data.image_size, data.fit, segmenter]
        if segmenter not in (None, THRESHOLDS):
            parts.append(weight_hashes(model_folder(segmenter)))
        if not isinstance(self.autoencoder, SmallAutoencoderKL):
            parts += [weight_hashes(model_folder(self.recipe.autoencoder)), seed]
        return json.dumps(parts)


class _GroundingScores:
    """Collects pointing-game accuracy and IoU per word and layer."""

    def __init__(self, pointing: Sequence[str], domain: Domain) -> None:
        self.pointing = pointing
        self.groups = {
            name: [domain.regions.index(region) for region in some] for name, some in domain.word_groups.items()
        }
        self.values: dict[str, list[Tensor]] = {}

    def add(self, by_layer: dict[str, Tensor], prompts: PromptBatch, regions: Tensor) -> None:
        maps = {name.split(".attn")[0]: m for name, m in by_layer.items()}
        maps["middle"] = torch.stack([by_layer[name] for name in self.pointing]).mean(dim=0)
        for layer, of_layer in maps.items():
            words = unit_maximum(of_layer)
            target = _match(regions, words)
            hit, iou = pointing_game(words, target).float(), threshold_iou(words, target)
            used = (prompts.spans.sum(dim=-1) > 0) & (target.amax(dim=(-1, -2)) >= 0.5)
            for group, members in self.groups.items():
                chosen = used & torch.isin(prompts.region, torch.tensor(members, device=used.device))
                if layer == "middle":
                    self._put(f"pointing/{group}", hit[chosen])
                self._put(f"iou/{group}" if layer == "middle" else f"iou_by_layer/{layer}", iou[chosen])

    def summary(self) -> dict[str, float]:
        return {name: float(torch.cat(v).mean()) for name, v in self.values.items() if sum(map(len, v))}

    def _put(self, name: str, values: Tensor) -> None:
        self.values.setdefault(name, []).append(values)


def pixel_weights(autoencoder: nn.Module, power: float = 1.0) -> Tensor:
    """Weights (channels, 1, 1) of mean 1 that make an error of latents count as it will in pixels, where that is known.

    Without them the many channels of fine detail, which noise makes unpredictable, drown the few that hold the picture.
    With the full power, nearly all the weight lies on the mean of each patch; with half, ribs are learned sooner.
    """
    if not isinstance(autoencoder, SmallAutoencoderKL):
        return torch.ones(1, 1, 1)
    gain = autoencoder.pixel_gain**power
    return (gain / gain.mean()).view(-1, 1, 1)


def phrase_regions(regions: Tensor, index: Tensor) -> Tensor:
    """Region map of every phrase.

    Args:
        regions: (batch, regions, h, w) in [0, 1].
        index: (batch, phrases) into the regions, `NO_REGION` for none.

    Returns:
        float (batch, phrases, h, w) in [0, 1]; zero where there is none.
    """
    batch = torch.arange(len(regions), device=regions.device)[:, None]
    maps = regions[batch, index.clamp_min(0)]
    return maps * (index != NO_REGION)[..., None, None]


def _match(regions: Tensor, attention: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(regions, attention.shape[-2:])


def denoiser_sizes(model: DenoiserModel) -> dict:
    """Arguments of `UViT2DModel` that a recipe gives, by a preset's name or one by one."""
    given = model.model_dump(exclude={"preset"}, exclude_none=True)
    return {**PRESETS[model.preset], **given} if model.preset else given


def text_parts(
    text: TextModel, corpus: Iterable[str]
) -> tuple[PreTrainedTokenizerBase, nn.Module | None, nn.Module | None, int]:
    """(tokenizer, frozen encoder or None, encoder to train on `corpus` or None, width of the states)."""
    if text.path is not None:
        encoder, tokenizer = load_text_encoder(text.path if Path(text.path).is_dir() else hub_folder(text.path))
        return tokenizer, encoder.float().eval().requires_grad_(False), None, encoder.config.hidden_size
    tokenizer = train_tokenizer(corpus, vocab_size=text.vocab_size, max_length=text.max_length)
    encoder = small_text_encoder(
        tokenizer,
        hidden_size=text.hidden_size,
        layers=text.layers,
        heads=text.heads,
        max_length=text.max_length,
    )
    return tokenizer, None, encoder, text.hidden_size
