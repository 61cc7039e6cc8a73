"""What a radiograph shows that is not of the body: burned-in letters, lead markers, electrodes, pacemakers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class _Kind:
    """Bright things of a kind; lengths are shares of the picture's side, brightness is in [0, 1].

    reach: side of a square that they are narrower than.
    over: how far they are above what is around, at least.
    edge: how sharp they are somewhere, at least.
    """

    reach: float
    over: float
    edge: float


_STROKES = _Kind(reach=11 / 256, over=0.14, edge=0.20)
_BLOCKS = _Kind(reach=27 / 256, over=0.28, edge=0.12)
_FINE = 4 / 256
"""Side of a square that a letter's stroke is narrower than, and a rib is not."""

_LONGEST = 44 / 256
"""Ribs beside a dark lung are as bright and as narrow, and longer."""

_RIM = 4 / 256


def marker_mask(image: np.ndarray) -> np.ndarray:
    """Where letters, markers and devices are, bool (H, W), with a rim of 1.6 % of the side.

    White top-hats of two sizes, of which short things with sharp edges are taken. Wires and things that are hardly
    brighter than what is behind them are missed; the end of a clavicle is taken now and then.

    Args:
        image: float (H, W) in [0, 1], bright = dense.
    """
    side, image = min(image.shape), image.astype(np.float32)
    strokes = _found(_above(image, _STROKES.reach * side), _above(image, _FINE * side), _STROKES, side)
    slope = ndimage.gaussian_gradient_magnitude(image, side / 256, mode="nearest") * side / 256
    blocks = _found(_above(image, _BLOCKS.reach * side), slope, _BLOCKS, side)
    return ndimage.binary_dilation(strokes | blocks, iterations=max(1, round(_RIM * side)))


def _above(image: np.ndarray, reach: float) -> np.ndarray:
    """White top-hat by a square; the border repeats, so that what it cuts is seen too."""
    return image - ndimage.grey_opening(image, size=max(2, round(reach)), mode="nearest")


def _found(above: np.ndarray, edges: np.ndarray, kind: _Kind, side: int) -> np.ndarray:
    """Components that are bright enough, short, and sharp somewhere."""
    parts, count = ndimage.label(above > kind.over, np.ones((3, 3)))
    if not count:
        return parts > 0
    short = [max(s.stop - s.start for s in box) <= _LONGEST * side for box in ndimage.find_objects(parts)]
    sharp = ndimage.maximum(edges, parts, np.arange(1, count + 1)) > kind.edge
    return np.concatenate([[False], sharp & short])[parts]
