"""Gaussian filtering in a feature space of a few dimensions on the permutohedral lattice (Adams et al. 2010)."""

from __future__ import annotations

import numpy as np
from scipy import sparse


class PermutohedralLattice:
    """Approximates sum_j exp(-|f_i - f_j|^2 / 2) v_j in time linear in the number of points.

    Points are spread to the corners of the simplex they lie in, blurred along each lattice direction, and read back:
    sparse matrix products and table look-ups, so that no compiler is needed.

    Args:
        features: float (d, n), already divided by the standard deviation of each dimension.
    """

    def __init__(self, features: np.ndarray) -> None:
        dims, count = features.shape
        base, rank, weights = _enclosing_simplex(_elevate(np.asarray(features, np.float32)))
        keys, steps = _corner_keys(base, rank)
        table = _HashTable(keys)
        rows = np.arange(0, (dims + 1) * count + 1, dims + 1, dtype=np.int32)
        entries = np.ascontiguousarray(weights.T).ravel(), table.places.ravel(), rows
        self._slice = sparse.csr_array(entries, shape=(count, len(table)))
        self._splat = self._slice.T
        self._neighbours = [table.neighbours(step) for step in steps]
        self._gain = np.float32(1 / (1 + 2.0**-dims))

    def filter(self, values: np.ndarray) -> np.ndarray:
        """Filtered float32 (n,) of float32 values (n,)."""
        lattice = np.append(self._splat @ values, np.float32(0))  # the last stands for "none"
        for ahead, behind in self._neighbours:
            lattice[:-1] += np.float32(0.5) * (lattice[ahead] + lattice[behind])
        return self._gain * (self._slice @ lattice[:-1])


class _HashTable:
    """The distinct ones among integer keys (k, n), and where each key stands among them.

    Sorting the keys, as np.unique does, would take most of the time of a CRF.
    """

    EMPTY = -1

    def __init__(self, keys: np.ndarray) -> None:
        self._bits = int(1.5 * keys.size).bit_length()
        self._table = np.full(1 << self._bits, self.EMPTY, np.int64)
        slots = self._slots(keys)
        pending, wanted, slot = np.arange(keys.size), keys.ravel(), slots.ravel()
        while len(pending):
            free = self._table[slot] == self.EMPTY
            self._table[slot[free]] = wanted[free]
            lost = np.flatnonzero(self._table[slot] != wanted)
            pending, wanted, slot = pending[lost], wanted[lost], self._next(slot[lost])
            slots.ravel()[pending] = slot
        used = np.flatnonzero(self._table != self.EMPTY)
        self._keys = self._table[used]
        self._order = np.full(len(self._table), len(used), np.int32)
        self._order[used] = np.arange(len(used))
        self.places = np.ascontiguousarray(self._order[slots].T)

    def __len__(self) -> int:
        return len(self._keys)

    def neighbours(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each distinct key the place of key + step and of key - step; `len(self)` where there is none."""
        wanted = self._keys + step
        slot = self._slots(wanted)
        ahead = np.full(len(wanted), len(self), np.int32)
        pending = np.arange(len(wanted))
        while len(pending):
            found = self._table[slot]
            hit = found == wanted
            ahead[pending[hit]] = self._order[slot[hit]]
            on = np.flatnonzero(~hit & (found != self.EMPTY))
            pending, wanted, slot = pending[on], wanted[on], self._next(slot[on])
        behind = np.full(len(ahead) + 1, len(self), np.int32)
        behind[ahead] = np.arange(len(ahead))
        return ahead, behind[:-1]

    def _slots(self, keys: np.ndarray) -> np.ndarray:
        return ((keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - self._bits)).view(np.int64)

    def _next(self, slot: np.ndarray) -> np.ndarray:
        return (slot + 1) & (len(self._table) - 1)


def _elevate(features: np.ndarray) -> np.ndarray:
    """Points (d, n) on the hyperplane of d + 1 coordinates that sum to zero, scaled so that the blur has unit width."""
    index = np.arange(1, len(features) + 1, dtype=features.dtype)[:, None]
    scaled = features * (np.sqrt(2 / 3) * (len(features) + 1) / np.sqrt(index * (index + 1))).astype(features.dtype)
    elevated = np.zeros((len(features) + 1, features.shape[1]), features.dtype)
    elevated[:-1] = np.cumsum(scaled[::-1], axis=0)[::-1]
    elevated[1:] -= index * scaled
    return elevated


def _enclosing_simplex(elevated: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Remainder-0 corner, rank of each coordinate and barycentric weights, (d + 1, n) each."""
    size = len(elevated)
    nearest = np.rint(elevated / size)
    base, excess = (nearest * size).astype(np.int32), nearest.sum(axis=0).astype(np.int8)
    rest = elevated - base
    rank = np.zeros(elevated.shape, np.int8)
    for i in range(size):
        for j in range(i + 1, size):
            lower = rest[i] < rest[j]
            rank[i] += lower
            rank[j] += ~lower
    rank += excess
    wrap = (rank < 0).astype(np.int8) - (rank >= size)
    base += np.int32(size) * wrap
    rank += np.int8(size) * wrap
    ranked = np.empty_like(elevated)
    np.put_along_axis(ranked, rank, (elevated - base) / size, axis=0)
    weights = np.empty_like(elevated)
    weights[1:] = ranked[-2::-1] - ranked[:0:-1]
    weights[0] = 1 + ranked[-1] - ranked[0]
    return base, rank, weights


def _corner_keys(base: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One integer for each corner (d + 1, n) of each simplex, and what to add to it for a step in each direction.

    From corner to corner all coordinates grow by one, but for the one of the next lower rank, which falls by d.
    """
    size = len(base)
    margin = 2 * size
    low = base[:-1].min(axis=1)
    extent = base[:-1].max(axis=1).astype(np.int64) - low + 2 * margin + 1
    radix = np.concatenate([[1], np.cumprod(extent[:-1]), [0]])  # the last coordinate follows from the others
    order = np.empty_like(rank)
    np.put_along_axis(order, rank, np.broadcast_to(np.arange(size, dtype=np.int8)[:, None], rank.shape), axis=0)
    change = radix.sum() - size * radix
    keys = np.empty(base.shape, np.int64)
    keys[0] = radix[:-1] @ (base[:-1] - low[:, None] + margin)
    for corner in range(1, size):
        keys[corner] = keys[corner - 1] + change[order[size - corner]]
    return keys, size * radix - radix.sum()
