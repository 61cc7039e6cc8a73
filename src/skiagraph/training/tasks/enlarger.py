"""Training of the last stage: generated pictures at twice their side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from skiagraph.domains.domain import load_domain
from skiagraph.errors import RecipeError
from skiagraph.files import atomic_path
from skiagraph.models.enlarger import Enlarger, shrunk
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.progress import progress
from skiagraph.training.images import load_images, random_indices, record_weight, records_of, to_model_range
from skiagraph.training.perceptual import PerceptualLoss, random_crops
from skiagraph.training.recipe import EnlargerRecipe
from skiagraph.training.tasks.perceptual_decoder import sample_bank

DRAWN_AT_ONCE = 32

COARSE = 4
"""What a sample is to keep: means of so many of its pixels a side."""


class EnlargerTask:
    """`PerceptualLoss` of enlarged pictures.

    All small pictures are drawn by the generator's decoder, whose faults are to be mended and not to be made larger:
    those of radiographs, with the radiographs at full size to be near to, and those of samples, which must stay what
    they were at a quarter of their size.
    """

    def __init__(self, recipe: EnlargerRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        records, val = records_of(recipe, "train"), records_of(recipe, "val")
        self.weights = torch.tensor([record_weight(r, recipe.sampling) for r in records])
        prompts = list(map(load_domain(recipe.domain).record_prompt, records))
        self.train, self.val = (
            load_images(part, recipe.data.image_size, recipe.data.fit)
            for part in (records, val[:: max(1, len(val) // 48)])
        )
        drawn = cache / "drawn.safetensors"
        with PartialState().main_process_first():
            if not drawn.is_file():
                bank = sample_bank(recipe, prompts, self.weights, cache / "bank", device)
                pictures = _drawn(recipe, bank, {"train": self.train, "val": self.val}, device)
                with atomic_path(drawn) as temporary:
                    save_file(pictures, temporary)
        self.drawn = load_file(drawn)
        self.perceptual = PerceptualLoss(recipe.losses)
        parts = {"enlarger": Enlarger(**recipe.model.model_dump()), "critic": self.perceptual.critic()}
        self.model = nn.ModuleDict(parts).to(memory_format=torch.channels_last)

    def to(self, device: torch.device) -> None:
        self.device = device
        self.perceptual.to(device)

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        parts = getattr(model, "module", model)
        half, side = batch_size // 2, self.recipe.crop // Enlarger.FACTOR
        images, again = self._crops(half, side, generator)
        samples = self.drawn["bank"][random_indices(len(self.drawn["bank"]), half, generator)]
        made = to_model_range(random_crops(samples, side, generator)).to(self.device)
        large = parts["enlarger"](torch.cat([again, made]), generator).float()

        def inconsistency(pixels: Tensor) -> Tensor:
            return F.l1_loss(F.avg_pool2d(pixels, COARSE * Enlarger.FACTOR), F.avg_pool2d(made, COARSE))

        return self.perceptual(parts["critic"], large, images, inconsistency, generator)

    def _crops(self, count: int, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Crops of radiographs (count, 1, 2 side, 2 side), and of what the generator draws of them at half the size."""
        chosen = random_indices(len(self.train), count, generator, self.weights)
        drawn = F.interpolate(self.drawn["train"][chosen], scale_factor=Enlarger.FACTOR)  # nearest: one crop of both
        both = random_crops(torch.cat([self.train[chosen], drawn], dim=1), side, generator, Enlarger.FACTOR)
        images, again = to_model_range(both).to(self.device).split(1, dim=1)
        return images, again[..., :: Enlarger.FACTOR, :: Enlarger.FACTOR]

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """PSNR and distance of features (of the network that it learns from) of radiographs drawn and enlarged."""
        squared, features = [], []
        for large, small in zip(self.val.split(8), self.drawn["val"].split(8), strict=True):
            images = to_model_range(large).to(self.device)
            enlarged = model["enlarger"](to_model_range(small).to(self.device)).float().clamp(-1, 1)
            squared.append((enlarged - images).square().mean(dim=(1, 2, 3)))
            features.append(self.perceptual.distance(enlarged, images))
        psnr = (10 * torch.log10(4 / torch.cat(squared))).mean()
        return {"val_psnr": float(psnr), "val_features": float(torch.cat(features).mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        model["enlarger"].half().save_pretrained(folder)


def _drawn(recipe: EnlargerRecipe, bank: Tensor, images: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Pictures uint8 (n, 1, side, side) as the generator draws them: "bank" of its latents, others of large images.

    Raises:
        RecipeError: they are not half as large as the recipe's images.
    """
    pipeline = TextToImagePipeline.load(recipe.generator, device=str(device))
    if Enlarger.FACTOR * pipeline.image_side != recipe.data.image_size:
        raise RecipeError(
            f"data.image_size is {recipe.data.image_size}, and {recipe.generator} makes {pipeline.image_side} px; "
            f"give {Enlarger.FACTOR * pipeline.image_side}"
        )
    config, grain = pipeline.vae.config, Generator().manual_seed(recipe.seed)
    scaled = (bank - config.shift_factor) * config.scaling_factor
    found = {"bank": [_bytes(pipeline.draw(z.to(device), grain)) for z in scaled.split(DRAWN_AT_ONCE)]}
    with progress("drawing again", sum(map(len, images.values()))) as update:
        done = 0
        for name, whole in images.items():
            found[name] = []
            for part in whole.split(DRAWN_AT_ONCE):
                small = shrunk(part.float() / 255)[:, 0].numpy()
                found[name].append(_bytes(pipeline.draw(pipeline.encode(small), grain)))
                update(done := done + len(part), "")
    return {name: torch.cat(pictures) for name, pictures in found.items()}


def _bytes(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy((255 * pictures).round().astype(np.uint8))[:, None]
