"""Training of the lung segmenter on drawn masks, each split into right and left lung by component."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from PIL import Image
from torch import Generator, Tensor, nn

from skiagraph.data.anatomy import split_lungs
from skiagraph.data.datasets import Record
from skiagraph.errors import DataError
from skiagraph.models.lung_segmenter import LungSegmenter
from skiagraph.training.images import (
    load_images,
    random_affine,
    random_indices,
    random_intensity,
    records_of,
    to_model_range,
    warp,
)
from skiagraph.training.recipe import SegmenterRecipe


class LungSegmenterTask:
    """Dice + cross-entropy with wide geometric and intensity changes, since the masks are of children only."""

    def __init__(self, recipe: SegmenterRecipe) -> None:
        self.model = LungSegmenter(recipe.channels)
        self.train = _pairs(records_of(recipe.data, "train"), recipe)
        self.val = _pairs(records_of(recipe.data, "val"), recipe)
        self.criterion = DiceCELoss(to_onehot_y=True, softmax=True)
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = random_indices(len(self.train[0]), batch_size, generator)
        images, masks = (part[chosen] for part in self.train)
        matrices = random_affine(batch_size, generator, rotate=15, zoom=0.35, shift=0.1)
        images = warp(to_model_range(images), matrices)
        images = random_intensity(images, generator, contrast=0.5, brightness=0.4, gamma=0.7)
        masks = warp(masks.float(), matrices, mode="nearest", padding="zeros")
        logits = model(images.to(self.device)).float()
        return self.criterion(logits, masks.to(self.device)), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        images, masks = self.val
        predicted = torch.cat([model.segment(to_model_range(c).to(self.device)).cpu() for c in images.split(32)])
        scores = {}
        for index, name in ((1, "right"), (2, "left")):
            p, t = predicted == index, masks[:, 0] == index
            scores[f"val_dice_{name}"] = float(2 * (p & t).sum() / (p.sum() + t.sum()))
        return scores

    def export(self, model: nn.Module, folder: Path) -> None:
        model.half().save_pretrained(folder)


def _pairs(records: list[Record], recipe: SegmenterRecipe) -> tuple[Tensor, Tensor]:
    size = recipe.data.image_size
    kept, masks = [], []
    for record in records:
        if record.mask is None or not record.mask_trusted:
            continue
        drawn = np.asarray(Image.open(record.mask).convert("L").resize((size, size), Image.Resampling.NEAREST)) > 127
        try:
            right, left = split_lungs(drawn)
        except DataError:
            continue
        kept.append(record)
        masks.append(torch.from_numpy(right.astype(np.uint8) + 2 * left.astype(np.uint8)))
    if not kept:
        raise DataError("no image of the recipe's datasets has a trusted mask of two lungs")
    return load_images(kept, size, recipe.data.fit), torch.stack(masks)[:, None]
