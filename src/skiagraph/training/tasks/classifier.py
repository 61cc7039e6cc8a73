"""Training of the finding classifier on partly known labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor, nn

from skiagraph.data.datasets import Record
from skiagraph.domains.domain import load_domain
from skiagraph.models.finding_classifier import FindingClassifier
from skiagraph.training.images import (
    load_images,
    random_affine,
    random_indices,
    random_intensity,
    records_of,
    to_model_range,
    warp,
)
from skiagraph.training.recipe import ClassifierRecipe

Labelled = tuple[Tensor, Tensor]
"""Images, uint8 (n, 1, size, size), and how sure each target is, float32 (n, targets) in [0, 1]; NaN: unknown."""


class ClassifierTask:
    """Binary cross-entropy over the targets that are known; the others are masked out of the loss.

    Args:
        recipe: what to train, and how.
        train: training images and their targets.
        val: those that validate.
        sources: the data set of every training image, which the recipe's `sampling` speaks of.
    """

    def __init__(self, recipe: ClassifierRecipe, train: Labelled, val: Labelled, sources: Sequence[str]) -> None:
        self.recipe, self.train, self.val = recipe, train, val
        self.targets = load_domain(recipe.domain).targets
        self.model = FindingClassifier(self.targets, recipe.channels, recipe.data.image_size)
        self.weights = torch.tensor([recipe.sampling.get(name, 1.0) for name in sources])
        self.device = torch.device("cpu")

    @classmethod
    def from_recipe(cls, recipe: ClassifierRecipe) -> ClassifierTask:
        """Trains on the data sets that the recipe names."""
        train, val = (records_of(recipe, split) for split in ("train", "val"))
        return cls(recipe, _load(recipe, train), _load(recipe, val), [r.dataset for r in train])

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        s = self.recipe.augmentation
        chosen = random_indices(len(self.train[0]), batch_size, generator, self.weights)
        images = warp(
            to_model_range(self.train[0][chosen]),
            random_affine(batch_size, generator, rotate=10 * s, zoom=0.15 * s, shift=0.06 * s),
        )
        images = random_intensity(images, generator, contrast=0.25 * s, brightness=0.15 * s, gamma=0.3 * s)
        targets = self.train[1][chosen].to(self.device)
        logits = model(images.to(self.device)).float()
        known = ~targets.isnan()
        loss = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), weight=known.float(), reduction="sum")
        return loss / known.sum().clamp_min(1), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """AUROC of every target that some validation images have and others do not, and their mean."""
        logits, targets = logits_of(model, self.val[0], self.device), self.val[1]
        scores = {}
        for index, name in enumerate(self.targets):
            known = ~targets[:, index].isnan()
            truth = targets[known, index].numpy()
            if 0 < truth.sum() < len(truth):
                scores[f"val_auroc/{name}"] = float(roc_auc_score(truth, logits[known, index].numpy()))
        return {"val_auroc": sum(scores.values()) / len(scores), **scores} if scores else {}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.half().save_pretrained(folder)


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """What a classifier says of images uint8 (n, 1, size, size): float32 (n, targets)."""
    return torch.cat([model(to_model_range(part).to(device)).float().cpu() for part in images.split(64)])


def _load(recipe: ClassifierRecipe, records: list[Record]) -> Labelled:
    domain = load_domain(recipe.domain)
    targets = torch.tensor([domain.target_values(r, False) for r in records])
    return load_images(records, recipe.data.image_size, recipe.data.fit), targets
