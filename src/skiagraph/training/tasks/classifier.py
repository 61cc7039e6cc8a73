"""Training of the finding classifier on partly known labels."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor, nn

from skiagraph.data.datasets import LABELS, Record
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

ATTRIBUTES = ("abnormal", "child", "view AP", "male")
TARGETS = (*(label for label in LABELS if label != "normal"), *ATTRIBUTES)
"""What the classifier says: findings, and whether the picture is abnormal, of a child, an AP view, of a male."""


class ClassifierTask:
    """Binary cross-entropy over the targets a dataset knows; the others are masked out of the loss."""

    def __init__(self, recipe: ClassifierRecipe) -> None:
        self.recipe = recipe
        self.model = FindingClassifier(TARGETS, recipe.channels, recipe.data.image_size)
        self.train, self.train_targets = _load(recipe, "train")
        self.val, self.val_targets = _load(recipe, "val")
        records = records_of(recipe.data, "train", load_domain(recipe.domain).labels)
        self.weights = torch.tensor([recipe.sampling.get(r.dataset, 1.0) for r in records])
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = random_indices(len(self.train), batch_size, generator, self.weights)
        images = warp(
            to_model_range(self.train[chosen]),
            random_affine(batch_size, generator, rotate=10, zoom=0.15, shift=0.06),
        )
        images = random_intensity(images, generator, contrast=0.25, brightness=0.15, gamma=0.3)
        targets = self.train_targets[chosen].to(self.device)
        logits = model(images.to(self.device)).float()
        known = ~targets.isnan()
        loss = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), weight=known.float(), reduction="sum")
        return loss / known.sum().clamp_min(1), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        logits = torch.cat([model(to_model_range(c).to(self.device)).float().cpu() for c in self.val.split(64)])
        scores = {}
        for index, name in enumerate(TARGETS):
            known = ~self.val_targets[:, index].isnan()
            truth = self.val_targets[known, index].numpy()
            if 0 < truth.sum() < len(truth):
                scores[f"val_auroc/{name}"] = float(roc_auc_score(truth, logits[known, index].numpy()))
        return {"val_auroc": sum(scores.values()) / len(scores), **scores}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.half().save_pretrained(folder)


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


def _load(recipe: ClassifierRecipe, split: str) -> tuple[Tensor, Tensor]:
    records = records_of(recipe.data, split, load_domain(recipe.domain).labels)
    targets = torch.tensor([targets_of(r) for r in records])
    return load_images(records, recipe.data.image_size, recipe.data.fit), targets
