"""Gaussian filtering in a feature space of a few dimensions on the permutohedral lattice (Adams et al. 2010)."""

from __future__ import annotations

import numpy as np
from scipy import sparse


class PermutohedralLattice:
    """Approximates sum_j exp(-|f_i - f_j|^2 / 2) v_j in time linear in the number of points.

    Points are spread to the corners of the simplex they lie in, blurred along each lattice direction, and read back:
    sparse matrix products, so that no compiler is needed.

    Args:
        features: float (n, d), already divided by the standard deviation of each dimension.
    """

    def __init__(self, features: np.ndarray) -> None:
        count, dims = features.shape
        base, rank, weights = _enclosing_simplex(_elevate(np.asarray(features, np.float64)))
        keys = base[:, None, :dims] + _canonical(dims)[:, rank].transpose(1, 0, 2)[:, :, :dims]
        packed, steps = _pack(keys.reshape(-1, dims))
        corners, inverse = np.unique(packed, return_inverse=True)
        rows = np.arange(0, (dims + 1) * count + 1, dims + 1)
        shape = (count, len(corners))
        self._slice = sparse.csr_array((weights.ravel().astype(np.float32), inverse.ravel(), rows), shape=shape)
        self._splat = self._slice.T.tocsr()
        self._neighbours = [(_find(corners, corners + s), _find(corners, corners - s)) for s in steps]
        self._gain = np.float32(1 / (1 + 2.0**-dims))

    def filter(self, values: np.ndarray) -> np.ndarray:
        """Filtered float32 (n, c) of values (n, c)."""
        lattice = np.zeros((self._splat.shape[0] + 1, values.shape[1]), np.float32)  # the last row stands for "none"
        lattice[:-1] = self._splat @ values.astype(np.float32)
        for ahead, behind in self._neighbours:
            lattice[:-1] += 0.5 * (lattice[ahead] + lattice[behind])
        return self._gain * (self._slice @ lattice[:-1])


def _elevate(features: np.ndarray) -> np.ndarray:
    """Points (n, d) on the hyperplane of d + 1 coordinates that sum to zero, scaled so that the blur has unit width."""
    dims = features.shape[1]
    index = np.arange(1, dims + 1)
    scaled = features * (np.sqrt(2 / 3) * (dims + 1) / np.sqrt(index * (index + 1)))
    after = np.concatenate([np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1], np.zeros((len(scaled), 1))], axis=1)
    elevated = after
    elevated[:, 1:] -= index * scaled
    return elevated


def _enclosing_simplex(elevated: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Remainder-0 corner (n, d + 1), rank of each coordinate (n, d + 1) and barycentric weights (n, d + 1)."""
    size = elevated.shape[1]
    nearest = np.rint(elevated / size).astype(np.int64)
    base, excess = nearest * size, nearest.sum(axis=1, keepdims=True)
    rest = elevated - base
    order = np.argsort(-rest, axis=1, kind="stable")
    rank = np.empty_like(base)
    np.put_along_axis(rank, order, np.arange(size)[None], axis=1)
    rank += excess
    low, high = rank < 0, rank >= size
    base += size * (low.astype(np.int64) - high)
    rank += size * (low.astype(np.int64) - high)
    ranked = np.empty_like(elevated)
    np.put_along_axis(ranked, rank, (elevated - base) / size, axis=1)
    weights = np.empty_like(elevated)
    weights[:, 1:] = ranked[:, ::-1][:, 1:] - ranked[:, ::-1][:, :-1]
    weights[:, 0] = 1 + ranked[:, -1] - ranked[:, 0]
    return base, rank, weights


def _canonical(dims: int) -> np.ndarray:
    """Offset (corner, rank) of each corner of a simplex from its remainder-0 corner."""
    corner, rank = np.ogrid[: dims + 1, : dims + 1]
    return np.where(rank <= dims - corner, corner, corner - dims - 1)


def _pack(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One integer per lattice point (m, d), and what to add to it for a step in each of the d + 1 directions."""
    dims = keys.shape[1]
    low, margin = keys.min(axis=0), dims + 1
    extent = keys.max(axis=0) - low + 2 * margin + 1
    radix = np.concatenate([[1], np.cumprod(extent[:-1])])
    directions = np.vstack([np.full((dims, dims), -1) + (dims + 1) * np.eye(dims, dtype=np.int64), np.full(dims, -1)])
    return (keys - low + margin) @ radix, directions @ radix


def _find(corners: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position of each wanted lattice point among the sorted corners; their number where there is none."""
    place = np.searchsorted(corners, wanted)
    found = corners[np.minimum(place, len(corners) - 1)] == wanted
    return np.where(found, place, len(corners))
