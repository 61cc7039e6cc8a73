"""Can one tell from the generated pictures who was in the training set?"""

from __future__ import annotations

import numpy as np

from skiagraph.evaluation.classification import auroc
from skiagraph.evaluation.copies import nearest_neighbours
from skiagraph.evaluation.result import MetricResult, features_of


def membership_inference(
    train: np.ndarray, holdout: np.ndarray, synthetic: np.ndarray, *, extractor: str, seed: int = 0
) -> MetricResult:
    """AUROC of the nearest generated picture's similarity, telling training pictures from others; 0.5 tells nothing.

    The black-box attack that needs nothing but the pictures (Chen et al. 2020, arXiv 1909.03935, Eq. 3), with cosine
    similarity of features minus their training mean. As many training pictures are drawn as are held out.

    Args:
        train: features (m, d) of training pictures.
        holdout: features (k, d) of pictures of others.
        synthetic: features (n, d).
        extractor: name of what made them.
        seed: of the drawing and the interval.
    """
    train, holdout = features_of("training", train), features_of("held-out", holdout)
    synthetic = features_of("synthetic", synthetic)
    mean = train.mean(axis=0)
    n = min(len(train), len(holdout))
    rng = np.random.default_rng(seed)
    drawn = [part[rng.permutation(len(part))[:n]] for part in (train, holdout)]
    scores = np.concatenate([nearest_neighbours(part - mean, synthetic - mean)[0] for part in drawn])
    found = auroc(np.repeat([1, 0], n), scores, seed=seed)
    return MetricResult("membership inference", found.value, found.low, found.high, 2 * n, "lower", extractor=extractor)
