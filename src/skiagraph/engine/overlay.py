"""Masks shown on their pictures: areas tinted by class, borders white."""

from __future__ import annotations

import numpy as np

from skiagraph.data.masks import TINTS

OPACITY = 0.3


def overlaid(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A picture uint8 (H, W) or (H, W, 3) with a label map (H, W) over it, uint8 (H, W, 3)."""
    inside = labels > 0
    border = inside & ~(np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1))
    colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    tinted = (1 - OPACITY) * colours + OPACITY * TINTS[(labels.astype(int) - 1) % len(TINTS)]
    shown = np.where(inside[..., None], tinted, colours)
    shown[border] = 255
    return shown.astype(np.uint8)
