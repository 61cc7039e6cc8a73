"""From a heat map to a first mask: confident labels for an affinity network, and thresholds to choose from."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from skiagraph.errors import MaskError
from skiagraph.masks.crf import DenseCRF, unary_from_labels, unary_from_probabilities
from skiagraph.masks.settings import RADIOGRAPHS, MaskSettings

IGNORE = 255
"""Label of pixels that are not sure to be either."""

SHARPNESS = 16.0
"""Log odds per unit of a heat map; of 4, 8 and 16 the best on validation patients (`benchmarks/mask_steps.py`)."""

MINIMUM_SHARE = 0.06
"""Both sides of a confident labelling have at least this share of the pixels."""


def confidence_bounds(heat: np.ndarray) -> tuple[float, float]:
    """(low, high): surely background below the one, surely foreground from the other (DiffuMask's affinity labels).

    The map is parted at its most populated level between 0.45 and 0.53; the bounds are the means of both parts, the
    upper less 0.04, and each gives way in steps of 0.03 until `MINIMUM_SHARE` of the pixels lies beyond it.

    Args:
        heat: float (H, W) in [0, 1].

    Raises:
        MaskError: values outside [0, 1], or a constant map, which has nothing to part.
    """
    heat = _checked(heat)
    counts, edges = np.histogram(heat, bins=8, range=(0.45, 0.53))
    middle = float(edges[np.argmax(counts)])
    above, below = heat[heat > middle], heat[heat <= middle]
    if not above.size or not below.size:
        above, below = heat[heat > heat.mean()], heat[heat <= heat.mean()]
    high, low = float(above.mean()) - 0.04, float(below.mean())
    while (heat > high).mean() < MINIMUM_SHARE:
        high -= 0.03
    while (heat < low).mean() < MINIMUM_SHARE:
        low += 0.03
    return min(low, high), high


def confident_labels(heats: np.ndarray, image: np.ndarray, settings: MaskSettings = RADIOGRAPHS) -> np.ndarray:
    """Label map to learn affinities from: uint8 (H, W), 0 background, k the k-th class, `IGNORE` where unsure.

    The background is given first the strict and then the lenient bound as its score; each labelling is smoothed by the
    dense CRF, and what they do not agree on is ignored (AffinityNet, arXiv 1803.10464, section 3.2).

    Args:
        heats: float (classes, H, W) in [0, 1].
        image: uint8 (H, W) or (H, W, 3).
        settings: of the CRF.

    Raises:
        MaskError: maps outside [0, 1], constant, or of another size than the image.
    """
    bounds = [confidence_bounds(heat) for heat in heats]
    crf = settings.label_crf.crf(image)
    strict, lenient = (
        _smoothed(crf, _argmax(heats, np.array([b[side] for b in bounds])), len(heats) + 1) for side in (1, 0)
    )
    labels = np.full(image.shape[:2], IGNORE, np.uint8)
    labels[lenient == 0] = 0
    agreed = (strict == lenient) & (strict > 0)
    labels[agreed] = strict[agreed]
    return labels


def threshold_masks(
    heat: np.ndarray, image: np.ndarray, settings: MaskSettings = RADIOGRAPHS
) -> dict[float, np.ndarray]:
    """Mask of each candidate threshold after the dense CRF.

    The evidence for the foreground is a logistic function of how far the map exceeds the threshold. It must treat both
    sides alike: where levels near 0 count as surer than levels near 1, the CRF shrinks every mask.

    Args:
        heat: float (H, W) in [0, 1].
        image: uint8 (H, W) or (H, W, 3).
        settings: candidates, in (0, 1), and the CRF.

    Returns:
        bool (H, W) by threshold.
    """
    heat = _checked(heat)
    labels = np.array([-1, 1], np.float32)[:, None, None]
    crf = settings.threshold_crf.crf(image)
    masks = {}
    for threshold in settings.thresholds:
        probabilities = expit(labels * SHARPNESS * (heat - threshold))
        q = crf.infer(unary_from_probabilities(probabilities))
        masks[threshold] = q[1] > q[0]
    return masks


def adaptive_threshold(masks: dict[float, np.ndarray], reference: np.ndarray) -> tuple[float, float]:
    """(threshold, IoU) of the candidate whose mask overlaps a reference mask best (arXiv 2503.07209, section 3).

    Raises:
        MaskError: the reference is empty.
    """
    if not reference.any():
        raise MaskError("the reference mask is empty; there is no threshold to choose by it")
    overlaps = {t: (m & reference).sum() / (m | reference).sum() for t, m in masks.items()}
    best = max(overlaps, key=overlaps.__getitem__)
    return best, float(overlaps[best])


def _checked(heat: np.ndarray) -> np.ndarray:
    heat = np.asarray(heat, np.float32)
    if heat.ndim != 2 or not np.isfinite(heat).all() or heat.min() < 0 or heat.max() > 1:
        raise MaskError(f"heat map is {heat.shape}, {heat.min():.3g} to {heat.max():.3g}; expected (H, W) in [0, 1]")
    if np.ptp(heat) < 1e-6:
        raise MaskError("heat map is constant: the word points nowhere")
    return heat


def _argmax(heats: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The class whose map exceeds its own background score by most; 0 where none does."""
    margin = heats - background[:, None, None]
    return np.where(margin.max(axis=0) > 0, margin.argmax(axis=0) + 1, 0)


def _smoothed(crf: DenseCRF, labels: np.ndarray, count: int) -> np.ndarray:
    return crf.infer(unary_from_labels(labels, count, certainty=0.7)).argmax(axis=0)
