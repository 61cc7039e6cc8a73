"""Reading and writing masks as label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from skiagraph.data.anatomy import split_lungs
from skiagraph.data.images import square
from skiagraph.errors import DataError
from skiagraph.files import atomic_path

LUNG_SIDES = ("right lung", "left lung")


def read_mask(path: str | Path, size: int, *, fit: str, classes: Sequence[str]) -> np.ndarray:
    """Label map uint8 (size, size): 0 background, k the k-th of `classes`.

    A picture of two values, one beyond the classes, is a mask: of the one class or, for `LUNG_SIDES`, of both lungs,
    which are told apart by component. Any other holds the labels themselves.

    Args:
        path: of an 8-bit picture.
        size: side of the result in pixels.
        fit: as `skiagraph.data.images.square` was given for the image, so that both keep their place.
        classes: names of the classes.

    Raises:
        DataError: unreadable, labels beyond the classes, two values for several classes, or fewer than two lungs.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"mask {path} cannot be read ({error})") from error
    levels = np.unique(values)
    if len(levels) > 2 or levels.max() <= len(classes):
        if levels.max() > len(classes):
            raise DataError(f"mask {path} has the label {levels.max()} beyond the {len(classes)} class(es)")
        return sum(k * _placed(values == k, size, fit) for k in range(1, len(classes) + 1))
    mask = _placed(values > 0, size, fit)
    if len(classes) == 1:
        return mask.astype(np.uint8)
    if tuple(classes) != LUNG_SIDES:
        raise DataError(f"mask {path} has two values, which cannot be {len(classes)} classes; store labels 1, 2, ...")
    right, left = split_lungs(mask)
    return right.astype(np.uint8) + 2 * left.astype(np.uint8)


def write_mask(
    path: str | Path, labels: np.ndarray, classes: Sequence[str], *, text: Mapping[str, str] | None = None
) -> None:
    """Write a label map uint8 (H, W) atomically as a PNG that `read_mask` reads: one class is 255, several 1, 2, ...

    `text` and what the values mean go into its metadata.
    """
    values = [255] if len(classes) == 1 else range(1, len(classes) + 1)
    info = PngInfo()
    meaning = ", ".join(f"{value} {name}" for value, name in zip(values, classes, strict=True))
    for key, value in {**(text or {}), "Classes": f"0 background, {meaning}"}.items():
        info.add_itxt(key, value)
    stored = np.concatenate([[0], values]).astype(np.uint8)[labels]
    with atomic_path(path) as temporary:
        Image.fromarray(stored).save(temporary, format="PNG", pnginfo=info)


def _placed(mask: np.ndarray, size: int, fit: str) -> np.ndarray:
    return (square(mask.astype(np.float32), size, fit=fit) >= 0.5).astype(np.uint8)
