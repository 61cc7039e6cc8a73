"""Is one better than the other? Means and paired differences over patients and training seeds together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult

RESAMPLES = 2000

Statistic = Callable[[np.ndarray], np.ndarray]
"""Of the cases' weights (n,), one value for each training seed, (seeds,)."""


def grouped_mean(
    name: str, values: np.ndarray, groups: np.ndarray, direction: Literal["higher", "lower"], *, seed: int = 0
) -> MetricResult:
    """Mean with an interval from resampled patients and, independently, resampled training seeds.

    A patient's images stay together (the cluster bootstrap, Davison & Hinkley 1997, section 3.8), so that many images
    of few people do not pass for many people; a table of one seed says nothing of how much seeds differ.

    Args:
        name: of the metric.
        values: (seeds, cases), one row per training seed on the same cases, or (cases,).
        groups: (cases,), the patient of each case.
        direction: which way is better.
        seed: of the resampling.

    Returns:
        `n` counts cases; `details` holds the numbers of patients and seeds, and `p`, the two-sided bootstrap p-value of
        a mean of 0, at least 1 / `RESAMPLES`.

    Raises:
        EvaluationError: values that are not finite or do not fit the groups, or fewer than two patients.
    """
    table = np.atleast_2d(np.asarray(values, float))
    if table.ndim != 2 or table.shape[1] != len(groups) or not np.isfinite(table).all():
        raise EvaluationError(f"{name}: values are {np.shape(values)}; expected finite (seeds, {len(groups)} cases)")
    return grouped_statistic(name, lambda weights: table @ weights / weights.sum(), groups, direction, seed=seed)


def grouped_statistic(
    name: str, statistic: Statistic, groups: np.ndarray, direction: Literal["higher", "lower"], *, seed: int = 0
) -> MetricResult:
    """As `grouped_mean`, of any statistic: its mean over seeds, with patients and seeds resampled.

    Args:
        name: of the metric.
        statistic: of weighted cases; a draw for which it is NaN for all seeds is left out.
        groups: (cases,), the patient of each case.
        direction: which way is better.
        seed: of the resampling.

    Raises:
        EvaluationError: fewer than two patients.
    """
    patients, index = np.unique(groups, return_inverse=True)
    if len(patients) < 2:
        raise EvaluationError(f"{name}: one patient has no interval; give cases of at least two")
    whole = statistic(np.ones(len(index)))
    rng = np.random.default_rng(seed)
    draws = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        weights = np.bincount(rng.integers(len(patients), size=len(patients)), minlength=len(patients))[index]
        rows = rng.integers(len(whole), size=len(whole))
        draws[i] = statistic(weights.astype(float))[rows].mean()
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [0.025, 0.975])
    beyond = min((draws <= 0).mean(), (draws >= 0).mean())
    details = {"patients": len(patients), "seeds": len(whole), "p": float(np.clip(2 * beyond, 1 / RESAMPLES, 1))}
    return MetricResult(name, float(whole.mean()), float(low), float(high), len(index), direction, details=details)


def paired_difference(
    name: str, ours: np.ndarray, other: np.ndarray, groups: np.ndarray, direction: Literal["higher", "lower"], *,
    seed: int = 0,
) -> MetricResult:  # fmt: skip
    """Mean of ours minus the other's on the same cases and seeds, as `grouped_mean`: off zero, or not shown to differ.

    Args:
        name: of the metric.
        ours: (seeds, cases) or (cases,).
        other: of the same shape.
        groups: (cases,), the patient of each case.
        direction: which way the metric is better.
        seed: of the resampling.

    Raises:
        EvaluationError: as `grouped_mean`, or other shapes.
    """
    if np.shape(ours) != np.shape(other):
        raise EvaluationError(
            f"{name}: {np.shape(ours)} and {np.shape(other)} are not pairs of the same cases and seeds"
        )
    return grouped_mean(f"{name}, difference", np.asarray(ours) - np.asarray(other), groups, direction, seed=seed)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values (n,) for n comparisons (Holm 1979): the k-th smallest times n - k + 1, at most 1, not falling."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    result = np.empty_like(p)
    result[order] = corrected
    return result
