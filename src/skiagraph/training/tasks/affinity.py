"""Training of an AffinityNet on confident labels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from skiagraph.masks.affinity import affinity_loss
from skiagraph.masks.threshold import IGNORE
from skiagraph.models.affinity_net import STRIDE, AffinityNet
from skiagraph.training.images import random_affine, random_indices, random_intensity, to_model_range, warp
from skiagraph.training.recipe import AffinityRecipe


class AffinityTask:
    """Affinity loss over pairs of confidently labelled neighbours; slight geometric and intensity changes.

    Args:
        recipe: sizes and optimiser.
        images: uint8 (n, 1, H, W).
        labels: uint8 (n, 1, H, W), 0 background, classes from 1, `IGNORE` where unsure.
    """

    def __init__(self, recipe: AffinityRecipe, images: Tensor, labels: Tensor) -> None:
        torch.manual_seed(recipe.seed)
        self.images, self.labels = images, labels
        self.model = AffinityNet(channels=recipe.channels)
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = random_indices(len(self.images), batch_size, generator)
        matrices = random_affine(batch_size, generator, rotate=8, zoom=0.15, shift=0.05)
        images = warp(to_model_range(self.images[chosen]), matrices)
        images = random_intensity(images, generator, contrast=0.3, brightness=0.2, gamma=0.3)
        # Shifted by one, so that what comes in from outside the picture (0) is ignored and not background.
        moved = warp(self.labels[chosen].float() + 1, matrices, mode="nearest", padding="zeros")[:, 0]
        labels = torch.where(moved == 0, IGNORE, moved - 1)
        features = model(images.to(self.device)).float()
        return affinity_loss(features, coarse_labels(labels).to(self.device)), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)


def coarse_labels(labels: Tensor) -> Tensor:
    """Labels (batch, h, w) at the features' stride, of (batch, H, W): the pixel in the middle of each cell."""
    return labels[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
