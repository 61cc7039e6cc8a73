"""Training of the last stage: generated pictures at twice their side."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Generator, Tensor, nn

from skiagraph.domains.domain import load_domain
from skiagraph.errors import RecipeError
from skiagraph.models.enlarger import Enlarger, shrunk
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.training.images import load_images, random_indices, record_weight, records_of, to_model_range
from skiagraph.training.perceptual import PerceptualLoss, random_crops
from skiagraph.training.recipe import EnlargerRecipe
from skiagraph.training.tasks.perceptual_decoder import sample_bank

DRAWN_AT_ONCE = 32


class EnlargerTask:
    """`PerceptualLoss` of enlarged pictures; generated ones, made small again, must be what they were."""

    def __init__(self, recipe: EnlargerRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        records, val = records_of(recipe, "train"), records_of(recipe, "val")
        self.weights = torch.tensor([record_weight(r, recipe.sampling) for r in records])
        prompts = list(map(load_domain(recipe.domain).record_prompt, records))
        with PartialState().main_process_first():
            latents = sample_bank(recipe, prompts, self.weights, cache / "bank", device)
        self.bank = _drawn(recipe, latents, device)
        self.train, self.val = (
            load_images(part, recipe.data.image_size, recipe.data.fit)
            for part in (records, val[:: max(1, len(val) // 48)])
        )
        self.perceptual = PerceptualLoss(recipe.losses)
        parts = {"enlarger": Enlarger(**recipe.model.model_dump()), "critic": self.perceptual.critic()}
        self.model = nn.ModuleDict(parts).to(memory_format=torch.channels_last)

    def to(self, device: torch.device) -> None:
        self.device = device
        self.perceptual.to(device)

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        parts = getattr(model, "module", model)
        half, side = batch_size // 2, self.recipe.crop // Enlarger.FACTOR
        real = to_model_range(self.train[random_indices(len(self.train), half, generator, self.weights)])
        images = random_crops(real, side, generator, Enlarger.FACTOR).to(self.device)
        made = random_crops(self.bank[random_indices(len(self.bank), half, generator)], side, generator)
        made = to_model_range(made).to(self.device)
        large = parts["enlarger"](torch.cat([shrunk(images), made]), generator).float()
        return self.perceptual(parts["critic"], large, images, lambda pixels: F.l1_loss(shrunk(pixels), made))

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """PSNR and distance of features (of the network that it learns from) of radiographs made small and enlarged."""
        squared, features = [], []
        for chunk in self.val.split(8):
            images = to_model_range(chunk).to(self.device)
            large = model["enlarger"](shrunk(images)).float().clamp(-1, 1)
            squared.append((large - images).square().mean(dim=(1, 2, 3)))
            features.append(self.perceptual.distance(large, images))
        psnr = (10 * torch.log10(4 / torch.cat(squared))).mean()
        return {"val_psnr": float(psnr), "val_features": float(torch.cat(features).mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        model["enlarger"].half().save_pretrained(folder)


def _drawn(recipe: EnlargerRecipe, latents: Tensor, device: torch.device) -> Tensor:
    """Pictures uint8 (n, 1, side, side) of a bank's latents, as the generator draws them.

    Raises:
        RecipeError: they are not half as large as the recipe's images.
    """
    pipeline = TextToImagePipeline.load(recipe.generator, device=str(device))
    if Enlarger.FACTOR * pipeline.image_side != recipe.data.image_size:
        raise RecipeError(
            f"data.image_size is {recipe.data.image_size}, and {recipe.generator} makes {pipeline.image_side} px; "
            f"give {Enlarger.FACTOR * pipeline.image_side}"
        )
    config, parts = pipeline.vae.config, []
    for start, part in enumerate(latents.split(DRAWN_AT_ONCE)):
        scaled = (part - config.shift_factor) * config.scaling_factor
        pictures = pipeline.draw(scaled.to(device), Generator().manual_seed(start))
        parts.append(torch.from_numpy((255 * pictures).round().astype("uint8"))[:, None])
    return torch.cat(parts)
