"""How well do masks agree? Dice and IoU (per image and pooled), and distances of their borders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance, compute_iou

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap, mean_result


def dice(predicted: np.ndarray, true: np.ndarray, *, seed: int = 0) -> MetricResult:
    """Mean over images of 2 |A and B| / (|A| + |B|); 1 where both masks are empty, 0 where one is.

    Args:
        predicted: bool (n, H, W).
        true: bool (n, H, W).
        seed: of the bootstrap over images.

    Raises:
        EvaluationError: masks that are not bool, of unequal shape, or none. `details["values"]` has every image's.
    """
    a, b = _pair(predicted, true)
    values = compute_dice(_batch(a), _batch(b), ignore_empty=False).numpy()[:, 0]
    return mean_result("Dice per image", np.where(_either_empty(a, b), _both_empty(a, b), values), "higher", seed)


def iou(predicted: np.ndarray, true: np.ndarray, *, seed: int = 0) -> MetricResult:
    """Mean over images of |A and B| / |A or B|; arguments, empty masks and errors as in `dice`."""
    a, b = _pair(predicted, true)
    values = compute_iou(_batch(a), _batch(b), ignore_empty=False).numpy()[:, 0]
    return mean_result("IoU per image", np.where(_either_empty(a, b), _both_empty(a, b), values), "higher", seed)


def pooled_iou(predicted: np.ndarray, true: np.ndarray, *, seed: int = 0) -> MetricResult:
    """|A and B| / |A or B| with the pixels of all images in one count; large organs weigh more than in `iou`."""
    return pooled(*overlaps(predicted, true), seed=seed)[1]


def overlaps(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n,) in both masks of each image, and in either; arguments and errors as in `dice`."""
    a, b = _pair(predicted, true)
    return (a & b).sum(axis=(1, 2)), (a | b).sum(axis=(1, 2))


def pooled(both: np.ndarray, either: np.ndarray, *, seed: int = 0) -> list[MetricResult]:
    """Dice and IoU of all images in one count, from `overlaps`; 1 where all masks are empty."""

    def of(share: Callable[[float, float], float]) -> Callable[[np.ndarray, np.ndarray], float]:
        return lambda o, u: float(share(o.sum(), u.sum())) if u.sum() else 1.0

    statistics = {"Dice pooled": of(lambda o, u: 2 * o / (o + u)), "IoU pooled": of(lambda o, u: o / u)}
    return [
        MetricResult(name, statistic(both, either), *bootstrap(statistic, both, either, seed=seed), len(both), "higher")
        for name, statistic in statistics.items()
    ]


def hd95(predicted: np.ndarray, true: np.ndarray, *, spacing: float = 1.0, seed: int = 0) -> MetricResult:
    """Mean over images of the larger of the two 95th percentiles of border-to-border distances, in `spacing` units.

    Both masks empty count as 0, and one empty as the picture's diagonal, the largest distance there is.
    """
    measure = partial(compute_hausdorff_distance, percentile=95)
    return _border_distance("HD95", measure, predicted, true, spacing, seed)


def surface_distance(predicted: np.ndarray, true: np.ndarray, *, spacing: float = 1.0, seed: int = 0) -> MetricResult:
    """Mean over images of the mean distance of each border's points to the other border, in `spacing` units.

    Empty masks as in `hd95`.
    """
    measure = partial(compute_average_surface_distance, symmetric=True)
    return _border_distance("surface distance", measure, predicted, true, spacing, seed)


def _border_distance(
    name: str, measure: Callable[..., torch.Tensor], predicted: np.ndarray, true: np.ndarray, spacing: float, seed: int
) -> MetricResult:  # fmt: skip
    a, b = _pair(predicted, true)
    values = np.zeros(len(a))
    measurable = ~_either_empty(a, b)
    if measurable.any():
        pairs = _batch(a[measurable]), _batch(b[measurable])
        values[measurable] = measure(*pairs, include_background=True, spacing=spacing).numpy()[:, 0]
    values[_either_empty(a, b) & ~_both_empty(a, b)] = spacing * float(np.hypot(*a.shape[1:]))
    return mean_result(name, values, "lower", seed)


def _pair(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(predicted), np.asarray(true)
    if a.dtype != bool or b.dtype != bool or a.shape != b.shape or a.ndim != 3 or not len(a):
        raise EvaluationError(
            f"masks are {a.dtype} {a.shape} and {b.dtype} {b.shape}; expected two bool (n, H, W) of equal shape, n >= 1"
        )
    return a, b


def _batch(masks: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]


def _either_empty(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ~(a.any(axis=(1, 2)) & b.any(axis=(1, 2)))


def _both_empty(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ~(a.any(axis=(1, 2)) | b.any(axis=(1, 2)))
