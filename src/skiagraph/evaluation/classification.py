"""Does a classifier read the intended label?"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap


def auroc(labels: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> MetricResult:
    """Area under the ROC curve of scores (n,) for labels (n,) in {0, 1}, with a bootstrap interval over cases.

    Raises:
        EvaluationError: other shapes, or only one class.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 1 or set(np.unique(labels)) != {0, 1}:
        raise EvaluationError(
            f"labels {labels.shape} and scores {scores.shape} must be equal (n,), labels 0 and 1 present"
        )

    def statistic(y: np.ndarray, s: np.ndarray) -> float:
        return float(roc_auc_score(y, s)) if 0 < y.sum() < len(y) else float("nan")

    low, high = bootstrap(statistic, labels, scores, resamples=500, seed=seed)
    return MetricResult("AUROC", statistic(labels, scores), low, high, len(labels), "higher")
