"""Are samples copies of training images?"""

from __future__ import annotations

import numpy as np

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap, features_of


def nearest_neighbours(query: np.ndarray, bank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarity (n,) and index (n,) of the nearest of `bank` (m, d) for each of `query` (n, d)."""
    similarity = _unit(query) @ _unit(bank).T
    index = similarity.argmax(axis=1)
    return similarity[np.arange(len(query)), index], index


def memorisation(
    synthetic: np.ndarray,
    train: np.ndarray,
    holdout: np.ndarray,
    *,
    extractor: str,
    train_groups: np.ndarray,
    holdout_groups: np.ndarray,
    quantile: float = 0.95,
) -> MetricResult:
    """Share of synthetic images nearer to a training image than 95 % of held-out patients' images are.

    Fresh images give 1 - quantile = 0.05. `details` holds the threshold and the nearest training index of every sample.

    Args:
        synthetic: features (n, d).
        train: features (m, d).
        holdout: features (k, d) of patients who are not in train.
        extractor: name of the feature extractor.
        train_groups: patient of each training row.
        holdout_groups: patient of each held-out row.
        quantile: of held-out to train similarity that is the threshold.

    Raises:
        EvaluationError: a patient on both sides.
    """
    both = set(train_groups.tolist()) & set(holdout_groups.tolist())
    if both:
        raise EvaluationError(f"{len(both)} patients are in train and holdout, such as {min(both)}; split by patient")
    synthetic, train = features_of("synthetic", synthetic), features_of("training", train)
    holdout = features_of("held-out", holdout)
    threshold = float(np.quantile(nearest_neighbours(holdout, train)[0], quantile))
    similarity, index = nearest_neighbours(synthetic, train)
    above = (similarity > threshold).astype(float)
    low, high = bootstrap(lambda a: float(a.mean()), above)
    details = {"threshold": threshold, "expected": 1 - quantile, "nearest": index.tolist()}
    return MetricResult(
        "memorised share",
        float(above.mean()),
        low,
        high,
        len(above),
        "lower",
        extractor=extractor,
        details=details,
    )


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
