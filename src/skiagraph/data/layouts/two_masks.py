"""Masks that a layout keeps as one picture a lung."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from skiagraph.data.masks import LUNG_SIDES
from skiagraph.errors import DataError

SIDES = LUNG_SIDES


def both_lungs(right: Path, left: Path, picture: Path) -> np.ndarray:
    """Label map uint8 (H, W) at the picture's size: 1 the patient's right lung, 2 the left one.

    Raises:
        DataError: a file that cannot be read.
    """
    try:
        with Image.open(picture) as opened:
            size = opened.size
        drawn = [np.asarray(_opened(path).resize(size, Image.Resampling.NEAREST)) > 0 for path in (right, left)]
    except OSError as error:
        raise DataError(f"lungs {right} and {left} cannot be read ({error}); copy the data set again") from error
    return np.where(drawn[0], 1, np.where(drawn[1], 2, 0)).astype(np.uint8)


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("L")
