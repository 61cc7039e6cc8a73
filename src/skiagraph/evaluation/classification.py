"""Does a classifier read the intended label?"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap
from skiagraph.evaluation.statistics import Statistic


def auroc(labels: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> MetricResult:
    """Area under the ROC curve of scores (n,) for labels (n,) in {0, 1}, with a bootstrap interval over cases.

    Raises:
        EvaluationError: other shapes, or only one class.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 1 or set(np.unique(labels)) != {0, 1}:
        raise EvaluationError(
            f"labels {labels.shape} and scores {scores.shape} must be equal (n,), labels 0 and 1 present"
        )

    low, high = bootstrap(_area, labels, scores, resamples=500, seed=seed)
    return MetricResult("AUROC", _area(labels, scores), low, high, len(labels), "higher")


def _area(labels: np.ndarray, scores: np.ndarray) -> float:
    """By the ranks of the positive cases (Mann and Whitney 1947), many times as fast as by the curve."""
    positive = int(labels.sum())
    negative = len(labels) - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(scores)[labels == 1].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def mean_auroc(scores: np.ndarray, truth: np.ndarray) -> Statistic:
    """AUROC, the mean of the labels, as a statistic of weighted cases; cases of equal score count half.

    Args:
        scores: (seeds, n, labels).
        truth: (n, labels): 1, 0, or NaN where it is not known.

    Returns:
        Of weights (n,), one value a seed; a label of which the weighted cases have one kind alone does not count, and
        where no label counts the value is NaN.
    """
    ranked = [[_Ranked(of_seed[:, i], truth[:, i]) for i in range(truth.shape[1])] for of_seed in scores]

    def statistic(weights: np.ndarray) -> np.ndarray:
        areas = np.array([[label.area(weights) for label in labels] for labels in ranked])
        counted = np.isfinite(areas)
        return np.where(counted, areas, 0).sum(axis=1) / np.where(counted.any(axis=1), counted.sum(axis=1), np.nan)

    return statistic


class _Ranked:
    """Cases of one label in the order of their scores, so that a weighted area takes one pass."""

    def __init__(self, scores: np.ndarray, truth: np.ndarray) -> None:
        known = np.flatnonzero(~np.isnan(truth))
        self.order = known[np.argsort(scores[known], kind="stable")]
        self.positive = truth[self.order] == 1
        ranked = scores[self.order]
        self.first = np.searchsorted(ranked, ranked, side="left")
        self.last = np.searchsorted(ranked, ranked, side="right")

    def area(self, weights: np.ndarray) -> float:
        weights = weights[self.order]
        below = np.concatenate([[0.0], np.cumsum(weights * ~self.positive)])
        total = (weights @ self.positive) * below[-1]
        if not total:
            return float("nan")
        return float((weights * self.positive) @ (below[self.first] + below[self.last]) / 2 / total)
