"""Affinities between neighbouring pixels, and masks that spread along them (AffinityNet, arXiv 1803.10464)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from skiagraph.errors import MaskError
from skiagraph.masks.threshold import IGNORE

RADIUS = 5
EPSILON = 1e-5


def neighbour_offsets(radius: int = RADIUS) -> list[tuple[int, int]]:
    """(dy, dx) of one of each two opposite neighbours nearer than `radius`: 34 of them at radius 5."""
    reach = range(-radius + 1, radius)
    return [
        (dy, dx) for dy in range(radius) for dx in reach if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius
    ]


def affinities(features: Tensor, radius: int = RADIUS) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """a_ij = exp(-mean_c |f_i - f_j|) of all pairs of neighbours (arXiv 1803.10464, Eq. 2, mean instead of sum).

    Args:
        features: (batch, channels, h, w).
        radius: in feature pixels.

    Yields:
        (dy, dx) and the affinity (batch, h - dy, w - |dx|) in (0, 1] of each pixel to the one at that offset.
    """
    for offset in neighbour_offsets(radius):
        here, there = paired(features, *offset)
        yield offset, torch.exp(-(here - there).abs().mean(dim=1))


def paired(values: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """Views (..., h - dy, w - |dx|) of pixels and of their neighbours at the offset, dy >= 0."""
    height, width = values.shape[-2:]
    left, right = max(0, -dx), width - max(0, dx)
    return values[..., : height - dy, left:right], values[..., dy:, left + dx : right + dx]


def affinity_loss(features: Tensor, labels: Tensor, radius: int = RADIUS) -> Tensor:
    """L_bg / 4 + L_fg / 4 + L_neg / 2 over pairs of labelled neighbours (arXiv 1803.10464, Eqs. 4-7).

    Args:
        features: (batch, channels, h, w).
        labels: (batch, h, w), 0 background, classes from 1, `IGNORE` for pixels in no pair.
        radius: in feature pixels.

    Returns:
        Scalar; a kind of pair that does not occur counts nothing.
    """
    sums = features.new_zeros(3)
    counts = features.new_zeros(3)
    for (dy, dx), affinity in affinities(features, radius):
        here, there = paired(labels, dy, dx)
        sure = (here != IGNORE) & (there != IGNORE)
        same = sure & (here == there)
        likely, unlikely = torch.log(affinity + EPSILON), torch.log(1 - affinity + EPSILON)
        for kind, (chosen, term) in enumerate(
            ((same & (here == 0), likely), (same & (here > 0), likely), (sure & (here != there), unlikely))
        ):
            sums[kind] = sums[kind] - (term * chosen).sum()
            counts[kind] = counts[kind] + chosen.sum()
    return (sums / counts.clamp_min(1) * features.new_tensor([0.25, 0.25, 0.5])).sum()


def transition_matrix(features: Tensor, *, beta: float = 16.0, radius: int = RADIUS) -> sparse.csr_array:
    """Column-normalised A^beta of one image, sparse (h w, h w) (arXiv 1803.10464, Eqs. 8-9; beta 16 as in DiffuMask).

    Args:
        features: (channels, h, w).
        beta: Hadamard power; larger, and weak affinities count less.
        radius: in feature pixels.
    """
    height, width = features.shape[-2:]
    index = torch.arange(height * width).view(1, height, width)
    rows, columns, values = [index.flatten()], [index.flatten()], [torch.ones(height * width, dtype=torch.float64)]
    for offset, affinity in affinities(features[None], radius):
        here, there = (i.flatten() for i in paired(index, *offset))
        weight = affinity.flatten().double().cpu() ** beta
        rows += [here, there]
        columns += [there, here]
        values += [weight, weight]
    size = (height * width,) * 2
    entries = torch.cat(values).numpy(), (torch.cat(rows).numpy(), torch.cat(columns).numpy())
    matrix = sparse.coo_array(entries, shape=size).tocsr()
    return matrix @ sparse.diags_array(1 / matrix.sum(axis=0))


def random_walk(scores: np.ndarray, transition: sparse.csr_array, *, steps: int = 256) -> np.ndarray:
    """Scores after `steps` steps along the affinities (arXiv 1803.10464, Eq. 10): T^256 is squaring T eight times.

    The product is taken from the right, vector by vector, so that the dense power is never formed.

    Args:
        scores: float (classes, h, w).
        transition: from `transition_matrix`, (h w, h w).
        steps: of the walk.

    Raises:
        MaskError: scores of another size.
    """
    flat = np.asarray(scores, np.float64).reshape(len(scores), -1)
    if flat.shape[1] != transition.shape[0]:
        raise MaskError(f"scores have {flat.shape[1]} pixels, the transition matrix {transition.shape[0]}")
    walked = flat.T
    for _ in range(steps):
        walked = transition.T @ walked
    return walked.T.reshape(scores.shape)
