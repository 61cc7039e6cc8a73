"""Which pseudo-masks to trust: those that a segmenter trained on the others agrees with (arXiv 2503.07209)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def folds(count: int, parts: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rest, part) of each of `parts` random parts of range(count), as sorted indices."""
    order = np.random.default_rng(seed).permutation(count)
    for part in np.array_split(order, parts):
        yield np.setdiff1d(order, part), np.sort(part)


def agreement(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean IoU of two label maps (H, W) over the classes that either has; 1 where both are empty."""
    classes = np.union1d(predicted, labels)
    values = [((predicted == k) & (labels == k)).sum() / ((predicted == k) | (labels == k)).sum() for k in classes if k]
    return float(np.mean(values)) if values else 1.0


def best_share(scores: np.ndarray, share: float) -> np.ndarray:
    """Which of scores (n,) are among the best `share`, bool (n,); at least one."""
    keep = max(1, round(share * len(scores)))
    chosen = np.zeros(len(scores), bool)
    chosen[np.argsort(-np.asarray(scores), kind="stable")[:keep]] = True
    return chosen
