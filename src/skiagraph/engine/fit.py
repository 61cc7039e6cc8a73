"""How well pictures show what their reports state, by a classifier of findings: which of several draws to keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skiagraph.data.datasets import Record
from skiagraph.domains.domain import Domain
from skiagraph.engine.picture_sets import stated_values, with_report
from skiagraph.errors import ModelError, ReportError
from skiagraph.evaluation.features import classify
from skiagraph.models.registry import load_component

SMALLEST = 1e-4
"""Probabilities are at least so far from 0 and 1, so that one sure mistake does not outweigh all else."""


class Fit:
    """Judges pictures by a domain's classifier of findings.

    Args:
        domain: of the pictures.
        reports: all that will be asked about.

    Raises:
        ModelError: the domain has no classifier.
        ReportError: a report that states nothing the classifier knows.
    """

    def __init__(self, domain: Domain, reports: Sequence[str]) -> None:
        if domain.judge is None:
            raise ModelError(
                f"no classifier says which of several pictures of {domain.name} fits best; draw one of each"
            )
        self.classifier = load_component(domain.judge)
        known = [name in self.classifier.config.labels for name in domain.targets]
        self.names = [name for name, is_known in zip(domain.targets, known, strict=True) if is_known]
        self.stated = {report: _stated(report, domain)[known] for report in reports}
        for report, values in self.stated.items():
            if np.isnan(values).all():
                raise ReportError(f"the classifier knows nothing that {report[:80]!r} states; draw one picture of it")

    def __call__(self, reports: Sequence[str], images: np.ndarray) -> np.ndarray:
        """Mean logarithm (n,), at most 0, of the probability that each thing a report states is as it states it.

        Args:
            reports: one for each image.
            images: float (n, H, W), or (n, H, W, 3), in [0, 1].
        """
        grey = images.mean(axis=-1) if images.ndim == 4 else images
        scores = classify(self.classifier, grey)[1]
        present = np.stack([scores[name] for name in self.names], axis=1).clip(SMALLEST, 1 - SMALLEST)
        stated = np.stack([self.stated[report] for report in reports])
        return np.nanmean(stated * np.log(present) + (1 - stated) * np.log(1 - present), axis=1)


def _stated(report: str, domain: Domain) -> np.ndarray:
    """1, 0 or NaN for each of the domain's targets, by a report alone."""
    return np.array(stated_values(with_report(Record("", Path(), "", "", report=report), domain), domain))
