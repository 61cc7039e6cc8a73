"""Training of the finding classifier on partly known labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor, nn

from skiagraph.data.datasets import LABELS, Record
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

ATTRIBUTES = ("abnormal", "child", "view AP", "male")
TARGETS = (*(label for label in LABELS if label != "normal"), *ATTRIBUTES)
"""What the classifier says: findings, and whether the picture is abnormal, of a child, an AP view, of a male."""


Labelled = tuple[Tensor, Tensor]
"""Images, uint8 (n, 1, size, size), and how sure each of `TARGETS` is, float32 (n, targets) in [0, 1]; NaN: unknown."""


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
        self.model = FindingClassifier(TARGETS, recipe.channels, recipe.data.image_size)
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
        logits, targets = logits_of(model, self.val[0], self.device), self.val[1]
        scores = {}
        for index, name in enumerate(TARGETS):
            known = ~targets[:, index].isnan()
            truth = targets[known, index].numpy()
            if 0 < truth.sum() < len(truth):
                scores[f"val_auroc/{name}"] = float(roc_auc_score(truth, logits[known, index].numpy()))
        return {"val_auroc": sum(scores.values()) / len(scores), **scores}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.half().save_pretrained(folder)


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """What a classifier says of images uint8 (n, 1, size, size): float32 (n, targets)."""
    return torch.cat([model(to_model_range(part).to(device)).float().cpu() for part in images.split(64)])


def targets_of(record: Record, *, complete: bool = False) -> list[float]:
    """1, 0 or NaN (unknown) for each of `TARGETS`.

    Only NIH states all findings of a picture; elsewhere a finding not named is known to be absent only on a normal one,
    unless the labels are said to be `complete`.
    """
    complete = complete or record.dataset == "nih_chestxray14" or "normal" in record.labels
    absent = 0.0 if complete else float("nan")
    findings = [1.0 if label in record.labels else absent for label in TARGETS[: -len(ATTRIBUTES)]]
    abnormal = float("nan") if not record.labels else float("normal" not in record.labels)
    child = float("nan") if record.is_child is None else float(record.is_child)
    view = float("nan") if record.view not in ("AP", "PA") else float(record.view == "AP")
    male = float("nan") if record.sex is None or record.is_child else float(record.sex == "male")
    return [*findings, abnormal, child, view, male]


def _load(recipe: ClassifierRecipe, records: list[Record]) -> Labelled:
    targets = torch.tensor([targets_of(r) for r in records])
    return load_images(records, recipe.data.image_size, recipe.data.fit), targets
