"""What changed between two radiographs of a chest: how much denser places became, and whether as a finding would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skiagraph.data.chest.anatomy import SIDES, ZONES
from skiagraph.data.chest.measure import measure
from skiagraph.data.chest.roi import ORGANS, roi_of
from skiagraph.data.masks import Regions
from skiagraph.data.reports import Finding
from skiagraph.errors import DataError

DARKER = ("pneumothorax", "emphysema", "hyperinflation")
"""Findings that make their place darker; others make it denser."""


def density_changes(before: np.ndarray, after: np.ndarray, regions: Regions) -> dict[str, float]:
    """Mean change of every zone of the lungs and of the heart, in [-1, 1]; positive is denser."""
    names = (*(f"{side} {zone} zone" for side in SIDES for zone in ZONES), "heart")
    return {n: round(float((after - before)[regions[n]].mean()), 4) for n in names if n in regions and regions[n].any()}


def direction_of(come: Sequence[Finding], go: Sequence[Finding]) -> int:
    """1 where every finding that comes or goes makes its place denser, -1 where every one makes it darker, else 0."""
    ways = {_way(finding, True) for finding in come} | {_way(finding, False) for finding in go}
    return ways.pop() if len(ways) == 1 else 0


def _way(finding: Finding, comes: bool) -> int:
    """1 where a finding that comes, or goes, makes its place denser, -1 where it makes it darker."""
    return 1 if comes != (finding.name in DARKER) else -1


def placed_as_named(
    finding: Finding, comes: bool, before: np.ndarray, after: np.ndarray, regions: Regions
) -> bool | None:
    """Whether a finding's place changed as it should, and more than the rest of the lungs; None where it is not known.

    A heart is to become wider; other places denser, or darker for `DARKER`. What goes does the opposite.
    """
    sign = _way(finding, comes)
    try:
        place = roi_of(finding, regions)
    except DataError:
        return None
    if finding.name in ORGANS:
        widths = [measure(picture, regions)["heart width"] for picture in (before, after)]
        return sign * (widths[1] - widths[0]) > 0
    moved, rest = sign * (after - before), regions["lungs"] & ~place
    return bool(moved[place].mean() > max(0.0, moved[rest].mean() if rest.any() else 0.0))
