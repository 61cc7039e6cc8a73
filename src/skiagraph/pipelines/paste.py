"""Putting a change into a picture so that nothing outside its region moves and no seam shows."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

WHOLE, COVER, TURNED = 16.0, 8.0, 0.02
"""Pixels over which a change is looked at as a whole, and for holes; how much it then has to be to count in full."""


LEVELS, AROUND = (0.6, 0.95), 0.05
"""Quantiles of a radiograph's pixels in organs and, of its side, this far around: where levelling begins and ends."""


def with_change(
    image: np.ndarray, change: np.ndarray, roi: np.ndarray, feather: float, levels: tuple[float, float] | None = None
) -> np.ndarray:
    """The image with a change, both (H, W) or (H, W, 3), faded in inside the region; outside it every pixel is its own.

    A change is the difference of two decoded pictures, so the grain that no autoencoder keeps stays the image's own.
    With `levels` of `tissue_levels`, what becomes denser than the first levels off towards the second, detail and all,
    as what lies under fluid does.
    """
    weight = fade(roi, feather)
    made = image + (weight if image.ndim == 2 else weight[..., None]) * change
    if levels is not None:
        made = np.where(change > 0, np.maximum(image, _levelled(made, *levels)), made)
    return made.clip(0, 1).astype(np.float32)


def tissue_levels(image: np.ndarray, organs: np.ndarray) -> tuple[float, float]:
    """Where an image (H, W) that is made denser levels off, and what it never passes: grey values of soft tissue.

    They are quantiles of what `organs`, bool (H, W), and their surroundings show.
    """
    near = ndimage.distance_transform_edt(~organs) <= AROUND * max(image.shape)
    low, high = np.quantile(image[near], LEVELS)
    return float(low), float(high)


def _levelled(image: np.ndarray, low: float, high: float) -> np.ndarray:
    room = max(high - low, 1e-6)
    return np.where(image > low, low + room * -np.expm1(-np.maximum(image - low, 0) / room), image)


def coarse(change: np.ndarray, roi: np.ndarray, width: float) -> np.ndarray:
    """What of a change, (H, W) or (H, W, 3), is coarser than a Gaussian of `width` pixels that sees the region only."""
    if not width or not roi.any():
        return change
    weight = roi.astype(np.float32)
    if change.ndim == 3:
        return np.stack([coarse(channel, roi, width) for channel in np.moveaxis(change, -1, 0)], axis=-1)
    seen = ndimage.gaussian_filter(weight, width)
    return ndimage.gaussian_filter(change * weight, width) / np.maximum(seen, 1e-3)


def one_way(change: np.ndarray, roi: np.ndarray, direction: int) -> np.ndarray:
    """What of a change (H, W) lies where it is denser (`direction` 1) or darker (-1) on the whole; all of it at 0.

    There fine detail changes both ways, as ribs do that come out of an opacity; elsewhere nothing does.
    """
    if not direction:
        return change
    return change * np.clip(direction * coarse(change, roi, WHOLE) / TURNED, 0, 1)


def covering(change: np.ndarray, roi: np.ndarray) -> np.ndarray:
    """A change (H, W) without holes: where it is denser over `COVER` pixels, it is nowhere less dense than that."""
    even = coarse(change, roi, COVER)
    return change + np.clip(even / TURNED, 0, 1) * np.maximum(even - change, 0)


def fade(roi: np.ndarray, width: float) -> np.ndarray:
    """Weight of an edit, float32 (H, W): 0 outside the region, rising smoothly to 1 `width` pixels inside it.

    In a region narrower than that, it rises to 1 at the innermost pixel.
    """
    depth = ndimage.distance_transform_edt(roi)
    ramp = np.clip(depth / max(min(width, depth.max()), 1e-6), 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * ramp)).astype(np.float32)
