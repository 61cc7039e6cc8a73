"""What a change of a radiograph shows: a classifier's word on each finding, and how much denser each place became."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skiagraph.data.chest.anatomy import SIDES, ZONES, Regions
from skiagraph.data.chest.measure import measure
from skiagraph.data.chest.roi import ORGANS, roi_of
from skiagraph.data.reports import Finding
from skiagraph.errors import DataError
from skiagraph.evaluation.features import classify
from skiagraph.models.registry import load_component

CLEAR = 0.1
"""Least change of a probability that counts."""

DARKER = ("pneumothorax", "emphysema", "hyperinflation")
"""Findings that make their place darker; others make it denser."""


class Reader:
    """Reads changes of chest radiographs with a classifier of findings, which never guides what it reads."""

    def __init__(self, judge: str) -> None:
        self.classifier = load_component(judge)

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
            as the finding would change it and more than the rest of the lungs, where its place is known; and `done`,
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
        placed = placed_as_named(finding, comes, before, after, regions)
        if placed is None:
            return row
        return row | {"placed": placed, "done": placed and row.get("towards", CLEAR) >= CLEAR}


def density_changes(before: np.ndarray, after: np.ndarray, regions: Regions) -> dict[str, float]:
    """Mean change of every zone of the lungs and of the heart, in [-1, 1]; positive is denser."""
    names = (*(f"{side} {zone} zone" for side in SIDES for zone in ZONES), "heart")
    return {n: round(float((after - before)[regions[n]].mean()), 4) for n in names if n in regions and regions[n].any()}


def placed_as_named(
    finding: Finding, comes: bool, before: np.ndarray, after: np.ndarray, regions: Regions
) -> bool | None:
    """Whether a finding's place changed as it should, and more than the rest of the lungs; None where it is not known.

    A heart is to become wider; other places denser, or darker for `DARKER`. What goes does the opposite.
    """
    sign = 1 if comes else -1
    try:
        place = roi_of(finding, regions)
    except DataError:
        return None
    if finding.name in ORGANS:
        widths = [measure(picture, regions)["heart width"] for picture in (before, after)]
        return sign * (widths[1] - widths[0]) > 0
    sign *= -1 if finding.name in DARKER else 1
    moved, rest = sign * (after - before), regions["lungs"] & ~place
    return bool(moved[place].mean() > max(0.0, moved[rest].mean() if rest.any() else 0.0))


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
