"""Who says what a radiograph shows: classifiers of findings that share neither network, training nor resolution.

A metric that hangs on one classifier measures that classifier's habits too; two that agree measure the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.features import EXTRACTOR, classify
from skiagraph.evaluation.result import MetricResult, bootstrap
from skiagraph.models.finding_classifier import FindingClassifier
from skiagraph.models.registry import load_component

Features = Callable[[np.ndarray], np.ndarray]
"""Features (n, d) of images float (n, H, W) in [0, 1]."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Inverse regularisation that a probe chooses from."""

FEWEST = 10
"""Known cases that a probe needs of either kind."""


class Judge(Protocol):
    """Probabilities (n,) in [0, 1] by finding, of images float (n, H, W) in [0, 1]; `name` stands in metrics."""

    name: str

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]: ...


class ClassifierJudge:
    """A trained `FindingClassifier`, by default the shipped one."""

    def __init__(self, name_or_folder: str = EXTRACTOR) -> None:
        self.name = name_or_folder
        network = load_component(name_or_folder)
        if not isinstance(network, FindingClassifier):
            raise EvaluationError(f"{name_or_folder} is a {type(network).__name__}, not a classifier of findings")
        self.network = network

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return classify(self.network, images)[1]


class ProbeJudge:
    """Logistic regressions on the features of a frozen network that was trained on something else.

    Args:
        features: of the frozen network.
        name: of the network, as metrics call it.
        known: features (n, d) of training radiographs.
        targets: (n, findings), 1, 0 or NaN where it is not known.
        findings: names of the columns; one with too few known cases is left out.
        patients: (n,), who stays together when the strength of regularisation is chosen.

    Raises:
        EvaluationError: arrays of other shapes, or no finding with enough known cases.
    """

    def __init__(
        self, features: Features, name: str, known: np.ndarray, targets: np.ndarray, findings: list[str],
        patients: np.ndarray,
    ) -> None:  # fmt: skip
        if not len(known) == len(targets) == len(patients) or targets.shape[1] != len(findings):
            raise EvaluationError(
                f"{name}: {len(known)} features, targets {targets.shape}, {len(findings)} findings and "
                f"{len(patients)} patients do not fit each other"
            )
        self.features, self.name = features, f"probe of {name}"
        self.models: dict[str, Pipeline] = {}
        for finding, column in zip(findings, targets.T, strict=True):
            sure = ~np.isnan(column)
            if min((column[sure] == 1).sum(), (column[sure] == 0).sum()) >= FEWEST:
                self.models[finding] = _probe(known[sure], column[sure].astype(int), patients[sure])
        if not self.models:
            raise EvaluationError(f"{name}: no finding has {FEWEST} known cases of either kind")

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        found = self.features(images)
        return {finding: model.predict_proba(found)[:, 1] for finding, model in self.models.items()}


def agreement(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], *, seed: int = 0
) -> dict[str, MetricResult]:
    """Spearman's rank correlation of two judges' probabilities, by each finding that both know, with its interval."""
    results = {}
    for finding in [name for name in first if name in second]:
        low, high = bootstrap(_rank_correlation, first[finding], second[finding], resamples=500, seed=seed)
        value = _rank_correlation(first[finding], second[finding])
        results[finding] = MetricResult(f"agreement on {finding}", value, low, high, len(first[finding]), "higher")
    return results


def _probe(known: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    grid = {"logisticregression__C": STRENGTHS}
    search = GridSearchCV(model, grid, scoring="roc_auc", cv=GroupKFold(3), error_score=0.0)
    return search.fit(known, truth, groups=patients).best_estimator_


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a, b).statistic)
