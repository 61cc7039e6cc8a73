"""What masks are like, and whether two sets of them are alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage
from scipy.stats import wasserstein_distance

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap

MEASURES = ("area", "height", "width", "pieces", "roughness")


def mask_measures(masks: np.ndarray) -> dict[str, np.ndarray]:
    """Measures (n,) of masks bool (n, H, W), by the names `MEASURES`; NaN of an empty mask.

    Area is a share of the picture, height and width those of the box around the mask, as shares of the picture's;
    roughness is the border's length over that of a disc of the same area.
    """
    if masks.dtype != bool or masks.ndim != 3:
        raise EvaluationError(f"masks are {masks.dtype} {masks.shape}; expected bool (n, H, W)")
    rows = [_measured(mask) for mask in masks]
    return dict(zip(MEASURES, np.array(rows, np.float32).reshape(-1, len(MEASURES)).T, strict=True))


def shape_distances(
    real: Mapping[str, np.ndarray], synthetic: Mapping[str, np.ndarray], *, seed: int = 0
) -> list[MetricResult]:
    """Wasserstein distance of each measure's distribution, over the real one's standard deviation.

    Measures are those of `mask_measures`; empty masks are left out. Compare at equal n, beside a floor.

    Raises:
        EvaluationError: fewer than two masks on a side.
    """
    results = []
    for name in MEASURES:
        a, b = (side[name][~np.isnan(side[name])].astype(float) for side in (real, synthetic))
        if min(len(a), len(b)) < 2:
            raise EvaluationError(f"{len(a)} real and {len(b)} synthetic masks are too few; give two at least")
        spread = max(float(a.std()), 1e-6)
        n = min(len(a), len(b))

        def statistic(x: np.ndarray, y: np.ndarray, spread: float = spread) -> float:
            return float(wasserstein_distance(x, y)) / spread

        value = statistic(a, b)
        low, high = bootstrap(statistic, a[:n], b[:n], resamples=300, seed=seed)
        results.append(MetricResult(f"mask {name}, distance", value, min(low, value), max(high, value), n, "lower"))
    return results


def _measured(mask: np.ndarray) -> tuple[float, ...]:
    if not mask.any():
        return (float("nan"),) * len(MEASURES)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    area = mask.sum()
    border = (mask & ~ndimage.binary_erosion(mask)).sum()
    return (
        area / mask.size, np.ptp(rows + 1) / height, np.ptp(columns + 1) / width, ndimage.label(mask)[1],
        border / (2 * np.sqrt(np.pi * area)),
    )  # fmt: skip
