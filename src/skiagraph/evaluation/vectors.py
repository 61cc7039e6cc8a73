"""Rows of features: some at a time, and of unit length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 2048
"""Rows of a matrix of all pairs that are held at a time."""


def blocks(n: int, size: int | None = None) -> Iterator[slice]:
    """Slices that cover n rows, each of `size`, by default `BLOCK`; one even where there are no rows."""
    size = size or BLOCK
    return (slice(start, start + size) for start in range(0, max(n, 1), size))


def unit(features: np.ndarray) -> np.ndarray:
    """Rows (n, d) of length 1; rows of zeros stay."""
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
