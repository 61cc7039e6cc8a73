"""Words for polyps in colonoscopy frames, measured from the picture and the drawn mask, as no data set has reports."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
from scipy import ndimage

from skiagraph.errors import DataError

SIZES = ((0.04, "small"), (0.12, "medium-sized"), (1.0, "large"))
"""Share of the picture up to which a polyp is called so."""

SHAPES = ((1.3, "round"), (1.8, "oval"), (np.inf, "elongated"))
"""Ratio of the long to the short axis up to which it is called so."""

TONES = ((-0.03, "paler than the mucosa"), (0.03, "same colour as the mucosa"), (np.inf, "redder than the mucosa"))
"""Redness, (R - (G + B) / 2) / (R + G + B), minus that of the tissue around."""

LIGHTS = ((-0.06, "darker than the mucosa"), (0.06, "evenly lit"), (np.inf, "brighter than the mucosa"))
"""Brightness in [0, 1] minus that of the tissue around."""

SURFACES = ((0.005, "smooth surface"), (np.inf, "glossy surface"))
"""Share of the polyp that is a white reflection."""

RING, REFLECTION = 0.08, 0.9
"""Width of the tissue around that it is compared with, as a share of the side; brightness of a reflection."""


def polyp_phrases(image: np.ndarray, mask: np.ndarray) -> list[str]:
    """Phrases such as "small round polyp" and "redder than the mucosa".

    Args:
        image: float (H, W, 3) in [0, 1].
        mask: bool (H, W), the polyp.

    Raises:
        DataError: an empty mask, or one of another size.
    """
    if mask.shape != image.shape[:2] or not mask.any():
        raise DataError(f"polyp mask {mask.shape} must have the image's size {image.shape[:2]} and not be empty")
    around = ndimage.distance_transform_edt(~mask)
    around = (around > 0) & (around <= RING * max(mask.shape)) & (image.max(axis=-1) > 0.1)
    around = around if around.any() else ~mask
    red = (image[..., 0] - image[..., 1:].mean(axis=-1)) / (image.sum(axis=-1) + 1e-3)
    light = image.mean(axis=-1)

    def difference(values: np.ndarray) -> float:
        return float(values[mask].mean() - values[around].mean()) if around.any() else 0.0

    size, shape = _named(SIZES, mask.mean()), _named(SHAPES, _axes_ratio(mask))
    return [
        f"{size} {shape} polyp",
        _named(TONES, difference(red)),
        _named(LIGHTS, difference(light)),
        _named(SURFACES, float((light[mask] > REFLECTION).mean())),
    ]


def polyp_language() -> Iterable[str]:
    """Every phrase there is: the corpus of a small tokenizer."""
    for (_, size), (_, shape) in product(SIZES, SHAPES):
        yield f"{size} {shape} polyp"
    for table in (TONES, LIGHTS, SURFACES):
        yield from (name for _, name in table)


def _named(table: tuple[tuple[float, str], ...], value: float) -> str:
    return next(name for bound, name in table if value <= bound)


def _axes_ratio(mask: np.ndarray) -> float:
    """Long over short axis of the ellipse with the mask's second moments; 1/12 is a pixel's own."""
    spread = np.cov(np.stack(np.nonzero(mask)), bias=True) + np.eye(2) / 12
    short, long = np.linalg.eigvalsh(spread)
    return float(np.sqrt(long / short))
