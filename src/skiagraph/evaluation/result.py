"""What every metric returns, and the bootstrap it takes its interval from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from skiagraph.errors import EvaluationError

PROTOCOL = "1"
"""Version of how metrics are computed, written with every result."""


@dataclass(frozen=True)
class MetricResult:
    """A value with its interval: `low` to `high` at `confidence`, over `n` cases; `direction` says what is better.

    `floor` is what real pictures reach against other real ones, or chance, where that is known. Values of different
    versions of the `protocol` do not compare.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    direction: Literal["higher", "lower"]
    confidence: float = 0.95
    extractor: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    floor: float | None = None
    protocol: str = PROTOCOL

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        source = f" [{self.extractor}]" if self.extractor else ""
        return f"{self.name}{source} {self.shown(4)}, n = {self.n}, {self.direction} is better"

    def shown(self, digits: int) -> str:
        """The value and its interval, with so many digits after the point."""
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def mean_result(name: str, values: np.ndarray, direction: Literal["higher", "lower"], seed: int) -> MetricResult:
    """The mean of one value per case (n,), with its bootstrap interval; `details["values"]` keeps them all."""
    low, high = bootstrap(np.mean, values, seed=seed)
    return MetricResult(
        name, float(values.mean()), low, high, len(values), direction, details={"values": values.tolist()}
    )


def features_of(name: str, values: np.ndarray) -> np.ndarray:
    """Finite float64 (n, d) with n >= 2, else EvaluationError naming `name`."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2 or not np.isfinite(array).all():
        raise EvaluationError(f"{name} features are {array.shape}; expected finite (n, d) with n >= 2")
    return array


def bootstrap(
    statistic: Callable[..., float],
    *arrays: np.ndarray,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of arrays of equal length, resampled in pairs (Efron and Tibshirani 1993).

    Resamples on which the statistic is NaN are left out.
    """
    rng = np.random.default_rng(seed)
    n = len(arrays[0])
    if any(len(a) != n for a in arrays):
        raise EvaluationError(f"arrays have lengths {[len(a) for a in arrays]}; they are resampled together")
    draws = []
    for _ in range(resamples):
        index = rng.integers(n, size=n)
        draws.append(statistic(*(a[index] for a in arrays)))
    low, high = np.nanquantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
