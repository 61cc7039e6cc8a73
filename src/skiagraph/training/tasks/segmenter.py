"""Training of segmenters on pairs of image and mask, be they real, synthetic or both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from monai.losses import DiceCELoss
from torch import Generator, Tensor, nn

from skiagraph.data.datasets import Record, masked
from skiagraph.data.masks import read_mask
from skiagraph.errors import DataError, RecipeError, one_line
from skiagraph.models.registry import load_component
from skiagraph.models.segmenter import Segmenter
from skiagraph.pipelines.mask_checks import least_agreement
from skiagraph.training.images import (
    load_images,
    random_affine,
    random_indices,
    random_intensity,
    random_roughness,
    records_of,
    to_model_range,
    warp,
)
from skiagraph.training.recipe import LatentSegmenterRecipe, SegmenterRecipe

Pairs = tuple[Tensor, Tensor]
"""Images and label maps, uint8 (n, 1, size, size) each."""

ENOUGH_TO_JUDGE = 200
"""So many changed validation images say how far a finished segmenter's views agree; few come several times each."""


class SegmenterTask:
    """Dice + cross-entropy, with wide geometric and intensity changes so that it bears other hospitals and ages.

    Args:
        recipe: what to train, and how.
        train: training pairs.
        val: validation pairs.
        sources: the data set of every training pair, which the recipe's `sampling` speaks of.
    """

    def __init__(self, recipe: SegmenterRecipe, train: Pairs, val: Pairs, sources: Sequence[str] = ()) -> None:
        self.recipe, self.train, self.val = recipe, train, val
        named = [recipe.sampling.get(name, 1.0) for name in sources]
        self.weights = torch.tensor(named) if recipe.sampling else None
        model = Segmenter(
            ("background", *recipe.classes), recipe.architecture, recipe.channels, recipe.data.image_size,
            recipe.in_channels,
        )  # fmt: skip
        self.model = started(model, recipe)
        self.criterion = DiceCELoss(to_onehot_y=True, softmax=True)
        self.device = torch.device("cpu")

    @classmethod
    def from_recipe(cls, recipe: SegmenterRecipe) -> SegmenterTask:
        """Trains on the data sets that the recipe names."""
        records, masks = read_masks(_taken(records_of(recipe, "train"), recipe), recipe)
        val = load_pairs(records_of(recipe, "val"), recipe)
        return cls(recipe, (_images(records, recipe), masks), val, [record.dataset for record in records])

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = random_indices(len(self.train[0]), batch_size, generator, self.weights)
        images, masks = augmented(self.train, chosen, generator, self.recipe)
        logits = model(images.to(self.device)).float()
        return self.criterion(logits, masks.to(self.device)), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Dice of every class with the pixels of all validation images in one count."""
        return validation_dice(model, self.val, self.recipe.classes, self.device)

    def export(self, model: nn.Module, folder: Path) -> None:
        export_segmenter(model, self.recipe, self.val, folder)


def started(model: nn.Module, recipe: SegmenterRecipe | LatentSegmenterRecipe) -> nn.Module:
    """The model, with the weights of the trained one that the recipe goes on from, if any.

    Raises:
        RecipeError: that one has other classes or sizes, or is another network.
        ModelError: it is not there, or does not load.
    """
    if recipe.start_from is None:
        return model
    trained = load_component(recipe.start_from)
    try:
        if list(trained.config.get("classes", ())) != list(model.config.classes):
            raise RuntimeError(f"its classes are {trained.config.get('classes')}")
        model.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        raise RecipeError(
            f"start_from {recipe.start_from} has other classes or sizes than the recipe: {one_line(error)[:200]}"
        ) from error
    return model


def export_segmenter(
    model: nn.Module, recipe: SegmenterRecipe | LatentSegmenterRecipe, val: Pairs, folder: Path
) -> None:
    """Save a segmenter with what its masks are held to, measured on validation images changed as in training."""
    chosen = torch.linspace(0, len(val[0]) - 1, ENOUGH_TO_JUDGE).round().long()
    images, masks = augmented(val, chosen, Generator().manual_seed(0), recipe)
    least = least_agreement(model, images, masks[:, 0].long())
    model.register_to_config(one_piece=recipe.one_piece, least_agreement=round(least, 4))
    model.half().save_pretrained(folder)


def splits_of(recipe: SegmenterRecipe | LatentSegmenterRecipe) -> tuple[Pairs, Pairs]:
    """Training pairs, as many as the recipe takes, and validation pairs of the data sets it names."""
    train = load_pairs(_taken(records_of(recipe, "train"), recipe), recipe)
    return train, load_pairs(records_of(recipe, "val"), recipe)


def augmented(
    pairs: Pairs, chosen: Tensor, generator: Generator, recipe: SegmenterRecipe | LatentSegmenterRecipe
) -> tuple[Tensor, Tensor]:
    """The chosen pairs moved, turned, zoomed and changed in intensity as much as the recipe says.

    Returns:
        Images float32 (batch, channels, size, size) in [-1, 1], and their label maps float32 (batch, 1, size, size).
    """
    s, batch = recipe.augmentation, len(chosen)
    images, masks = (part[chosen] for part in pairs)
    matrices = random_affine(
        batch, generator, rotate=15 * s, zoom=0.35 * s, shift=0.1 * s, mirror=recipe.mirror, stretch=recipe.stretch
    )
    images = warp(to_model_range(images), matrices)
    images = random_intensity(images, generator, contrast=0.5 * s, brightness=0.4 * s, gamma=0.7 * s)
    if recipe.roughness:
        images = random_roughness(images, generator, recipe.roughness)
    return images, warp(masks.float(), matrices, mode="nearest", padding="zeros")


def validation_dice(model: nn.Module, pairs: Pairs, classes: Sequence[str], device: torch.device) -> dict[str, float]:
    """Dice of every class with the pixels of all validation images in one count."""
    images, masks = pairs
    predicted = label_maps(model, images, device)
    scores = {}
    for index, name in enumerate(classes, start=1):
        p, t = predicted == index, masks[:, 0] == index
        scores[f"val_dice/{name}"] = float(2 * (p & t).sum() / (p.sum() + t.sum()).clamp_min(1))
    return scores


def label_maps(model: nn.Module, images: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """What a segmenter finds in uint8 images (n, c, size, size): label maps (n, size, size) on the CPU."""
    return torch.cat([model.segment(to_model_range(part).to(device)).cpu() for part in images.split(32)])


def _images(records: Sequence[Record], recipe: SegmenterRecipe | LatentSegmenterRecipe) -> Tensor:
    return load_images(records, recipe.data.image_size, recipe.data.fit, recipe.in_channels)


def load_pairs(records: list[Record], recipe: SegmenterRecipe | LatentSegmenterRecipe) -> Pairs:
    """Images and label maps of the records with a trusted mask of the recipe's classes."""
    kept, masks = read_masks(records, recipe)
    return _images(kept, recipe), masks


def read_masks(records: list[Record], recipe: SegmenterRecipe | LatentSegmenterRecipe) -> tuple[list[Record], Tensor]:
    """The records with a trusted mask of the recipe's classes, and their label maps uint8 (n, 1, size, size).

    Raises:
        DataError: there is none.
    """
    size, fit = recipe.data.image_size, recipe.data.fit
    kept, masks = [], []
    for record in masked(records):
        try:
            masks.append(torch.from_numpy(read_mask(record.mask, size, fit=fit, classes=recipe.classes)))
        except DataError:
            continue
        kept.append(record)
    if not kept:
        raise DataError(f"no image of {', '.join(recipe.data.datasets)} has a trusted mask of {recipe.classes}")
    return kept, torch.stack(masks)[:, None]


def _taken(records: list[Record], recipe: SegmenterRecipe | LatentSegmenterRecipe) -> list[Record]:
    """As many images with a mask of each dataset as `recipe.take` says, drawn by the recipe's seed."""
    usable = masked(records)
    order = torch.randperm(len(usable), generator=Generator().manual_seed(recipe.seed)).tolist()
    left = {name: recipe.take.get(name, len(usable)) for name in {r.dataset for r in usable}}
    kept = []
    for record in (usable[i] for i in order):
        if left[record.dataset] > 0:
            left[record.dataset] -= 1
            kept.append(record)
    return kept
