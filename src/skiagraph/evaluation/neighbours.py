"""Precision, recall, density and coverage: do generated pictures lie among the real ones, and reach all of them?"""

from __future__ import annotations

import numpy as np

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, features_of, mean_result
from skiagraph.evaluation.vectors import blocks

NEAREST = 5
"""Neighbours whose distance is a picture's radius, as published."""


def prdc(real: np.ndarray, synthetic: np.ndarray, *, extractor: str, nearest: int = NEAREST) -> list[MetricResult]:
    """Precision and recall (arXiv 1904.06991, Eq. 2), density and coverage (arXiv 2002.09797, Eqs. 3 and 5).

    A picture's ball reaches to its `nearest`-th neighbour in its own set. Precision is the share of generated pictures
    in some real one's ball, recall the share of real ones in some generated one's; density counts, for each generated
    picture, the real balls that it lies in, over `nearest`; coverage is the share of real balls with a generated
    picture in them. All depend on n. Intervals resample pictures while the balls stay.

    Args:
        real: features (n, d).
        synthetic: features (m, d).
        extractor: name of what made them.
        nearest: which neighbour gives the radius.

    Raises:
        EvaluationError: sets of other widths, or no larger than `nearest`.
    """
    real, synthetic = features_of("real", real), features_of("synthetic", synthetic)
    if real.shape[1] != synthetic.shape[1] or min(len(real), len(synthetic)) <= nearest:
        raise EvaluationError(
            f"features are {real.shape} and {synthetic.shape}; expected one width and more than {nearest} on each side"
        )
    real_radius, synthetic_radius = _radii(real, nearest), _radii(synthetic, nearest)
    counts, covered, reached = np.zeros(len(synthetic)), np.zeros(len(real), bool), np.zeros(len(real), bool)
    for part in blocks(len(synthetic)):
        distances = _distances(real, synthetic[part])
        inside = distances < real_radius[:, None]
        counts[part] = inside.sum(axis=0)
        covered |= inside.any(axis=1)
        reached |= (distances < synthetic_radius[None, part]).any(axis=1)
    values = {"precision": counts > 0, "recall": reached, "density": counts / nearest, "coverage": covered}
    return [_named(name, v.astype(float), extractor) for name, v in values.items()]


def _named(name: str, values: np.ndarray, extractor: str) -> MetricResult:
    found = mean_result(name, values, "higher", seed=0)
    return MetricResult(name, found.value, found.low, found.high, found.n, "higher", extractor=extractor)


def _radii(features: np.ndarray, nearest: int) -> np.ndarray:
    """Distance of each row to its `nearest`-th neighbour; the row itself is the zeroth."""
    parts = (features[rows] for rows in blocks(len(features)))
    return np.concatenate([np.partition(_distances(part, features), nearest, axis=1)[:, nearest] for part in parts])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (len(a), len(b))."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))
