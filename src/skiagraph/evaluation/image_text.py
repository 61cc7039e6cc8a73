"""How well pictures fit their texts, by an encoder of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skiagraph.evaluation.result import MetricResult, mean_result
from skiagraph.evaluation.vectors import unit

MOST = 2000
"""Pictures, drawn at random, whose texts are compared with each other's."""


def image_text_scores(images: np.ndarray, texts: np.ndarray, *, extractor: str, seed: int = 0) -> list[MetricResult]:
    """CLIPScore (Hessel et al. 2021, arXiv 2104.08718), and how often a picture fits its own text better than others'.

    Args:
        images: features (n, d) of pictures.
        texts: features (n, d) of the text of each, from the same encoder.
        extractor: name of the encoder.
        seed: of the intervals.

    Returns:
        "CLIPScore", the mean of max(100 cos(image, text), 0), without the paper's factor of 2.5, as in torchmetrics;
        and "own text before another's" in [0, 1], for each picture the share of other pictures' texts that it fits
        less, a tie counting half: 0.5 where texts say nothing of pictures. Equal texts are not another's.
    """
    a, b = unit(images), unit(texts)
    own = (a * b).sum(axis=1)
    results = [mean_result("CLIPScore", np.maximum(100 * own, 0), "higher", seed)]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(a))[:MOST])
    alike, own = a[chosen] @ b[chosen].T, own[chosen, None]
    kinds = np.unique(np.round(b[chosen], 6), axis=0, return_inverse=True)[1].ravel()
    other = kinds[:, None] != kinds
    better = ((own > alike) + 0.5 * (own == alike)) * other
    known = other.any(axis=1)
    if known.any():
        share = better[known].sum(axis=1) / other[known].sum(axis=1)
        results.append(mean_result("own text before another's", share, "higher", seed))
    return [replace(result, extractor=extractor) for result in results]
