"""What a change of a picture shows: a classifier's word on each finding, and whether its place changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skiagraph.data.masks import Regions
from skiagraph.data.reports import Finding
from skiagraph.domains.domain import Domain
from skiagraph.evaluation.features import classify
from skiagraph.models.registry import load_component

CLEAR = 0.1
"""Least change of a probability that counts."""


class Reader:
    """Reads changes with a domain's classifier of findings, which never guides what it reads."""

    def __init__(self, domain: Domain) -> None:
        self.classifier, self.placed = load_component(domain.judge), domain.edits.placed

    def __call__(
        self, before: np.ndarray, after: np.ndarray, come: Sequence[Finding], go: Sequence[Finding], regions: Regions
    ) -> list[dict[str, Any]]:
        """A row for each finding that was to come or to go, or for what is abnormal where none was to come.

        Args:
            before: float (H, W) in [0, 1].
            after: of the same shape.
            come: findings that `after` is to show.
            go: findings that it is to show no more.
            regions: of `before`, bool (H, W) by name; empty where they are not known.

        Returns:
            Rows of `finding`; `wanted`, whether it was to come; the classifier's probabilities `before` and `after` and
            how far they went `towards` what was wanted, where it knows the finding; `placed`, whether its place changed
            as the finding would change it and more than elsewhere, where its place is known; and `done`,
            whether all that could be read speaks for it, and something could.
        """
        scores = classify(self.classifier, np.stack([before, after]))[1]
        rows = [(finding, True) for finding in come] + [(finding, False) for finding in go]
        read = [self._read(finding, comes, scores, before, after, regions) for finding, comes in rows]
        return read or [_judged("abnormal", False, scores)]

    def _read(
        self, finding: Finding, comes: bool, scores: dict[str, np.ndarray], before: np.ndarray, after: np.ndarray,
        regions: Regions,
    ) -> dict[str, Any]:  # fmt: skip
        row = _judged(finding.name, comes, scores)
        placed = self.placed(finding, comes, before, after, regions)
        if placed is None:
            return row
        return row | {"placed": placed, "done": placed and row.get("towards", CLEAR) >= CLEAR}


def _judged(name: str, comes: bool, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {"finding": name, "wanted": comes, "done": False}
    if name not in scores:
        return row
    was, now = map(float, scores[name])
    towards = (now - was) * (1 if comes else -1)
    judged = {"before": round(was, 4), "after": round(now, 4), "towards": round(towards, 4)}
    return row | judged | {"done": towards >= CLEAR}


def verdict(said: dict[str, Any]) -> str:
    """One line on whether a finding came or went, by the classifier's probabilities and where the picture changed."""
    went = {(True, True): "came", (True, False): "did not come", (False, True): "went", (False, False): "did not go"}
    parts = [f"{said['finding']}: {went[said['wanted'], said['done']]}"]
    if "towards" in said:
        parts.append(f"a classifier gives it {said['before']:.2f} before and {said['after']:.2f} after")
    if said.get("placed") is False:
        parts.append("its place did not change as it would")
    return "; ".join(parts)
