"""Regions of a frontal radiograph derived from its lung masks: sides, zones and an estimate of the heart.

Sides are the patient's: the right lung lies on the left of the picture. Masks are bool (H, W).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from skiagraph.data.masks import LUNG_SIDES, Regions
from skiagraph.errors import DataError

SIDES = ("right", "left")
ZONES = ("upper", "mid", "lower")
REGIONS = (
    "right lung",
    "left lung",
    "heart",
    *(f"{side} {zone} zone" for side in SIDES for zone in ZONES),
    "lungs",
)
"""Names of the regions `regions_of` gives; the heart is an estimate, never a segmentation."""

WORDS = ("right", "left", "upper", "mid", "lower", "zone", "lung", "lungs", "heart")
"""Words of prompts that name anatomy."""


def regions_of(right: np.ndarray, left: np.ndarray) -> dict[str, np.ndarray]:
    """All `REGIONS` of one radiograph from its right and left lung masks, bool (H, W) each.

    A zone is a third of its own lung's height. Raises DataError where a lung is empty.
    """
    if not right.any() or not left.any():
        raise DataError("a lung mask is empty; regions need both lungs")
    regions = {"right lung": right, "left lung": left, "heart": estimate_heart(right, left)}
    for side, lung in zip(SIDES, (right, left), strict=True):
        regions |= {f"{side} {zone} zone": part for zone, part in zip(ZONES, _thirds(lung), strict=True)}
    return regions | {"lungs": right | left}


def complete_regions(organs: Mapping[str, np.ndarray]) -> Regions:
    """All `REGIONS` from masks of organs, whose own names stay.

    Raises:
        DataError: a lung is missing or empty.
    """
    missing = [n for n in LUNG_SIDES if n not in organs or not organs[n].any()]
    if missing:
        raise DataError(f"no mask of the {' and the '.join(missing)}; masks of both lungs are needed to find zones")
    return {**regions_of(organs["right lung"], organs["left lung"]), **organs}


def regions_of_lungs(found: np.ndarray) -> dict[str, np.ndarray] | None:
    """All `REGIONS` from a label map (H, W), 1 right lung, 2 left; None where a lung was not found."""
    right, left = found == 1, found == 2
    return regions_of(right, left) if right.any() and left.any() else None


def estimate_heart(right: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Where the heart is expected from the lungs' extent alone, bool (H, W): an estimate, not a segmentation.

    An ellipse on the lower thorax whose centre lies left of the midline by 6 % of the thoracic width and whose width is
    half of it, the upper limit of a normal cardiothoracic ratio (Danzer 1919).
    """
    top, bottom, start, end = _box(right | left)
    midline = (_box(right)[3] + _box(left)[2]) / 2
    width, height = end - start, bottom - top
    y, x = np.ogrid[: right.shape[0], : right.shape[1]]
    centre_y, centre_x = top + 0.68 * height, midline + 0.06 * width
    return ((x - centre_x) / (0.25 * width)) ** 2 + ((y - centre_y) / (0.30 * height)) ** 2 <= 1


def _thirds(lung: np.ndarray) -> list[np.ndarray]:
    top, bottom, _, _ = _box(lung)
    rows = np.arange(lung.shape[0])[:, None]
    edges = np.linspace(top, bottom, 4)
    return [lung & (rows >= low) & (rows < high) for low, high in itertools.pairwise(edges)]


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(top, bottom, left, right), ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
