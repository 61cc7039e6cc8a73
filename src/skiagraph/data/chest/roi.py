"""Region of interest of a finding: from its words to a part of a picture, by side, zone and organ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from skiagraph.data.chest.anatomy import SIDES
from skiagraph.data.masks import Regions
from skiagraph.data.reports import Finding
from skiagraph.errors import DataError

ORGANS = {"cardiomegaly": "heart"}
"""Findings that belong to another organ than the lungs."""

ZONE_OF = {"effusion": "lower"}
"""Where a finding is looked for when its side is named and no zone is."""

LEVELS = {"small": (0.12, 0.22), None: (0.22, 0.28), "moderate": (0.3, 0.28), "large": (0.45, 0.3)}
"""How high fluid stands by its severity, in shares of the lung's height: at the mediastinum, and how much more at the
side wall. Its border in between is a parabola, the meniscus of an upright patient."""

ROUND = (0.75, 0.62)
"""Half axes of the ellipse that stands for a zone, in shares of its height and width: opacities have no corners."""


def region_names(finding: Finding) -> list[str]:
    """Names of the regions (`anatomy.REGIONS`) that a finding speaks of; their union is its place.

    A zone without a side is that zone on both; neither is both lungs; a large effusion of one side is that lung; a
    finding of `ORGANS` is that organ.
    """
    if finding.name in ORGANS:
        return [ORGANS[finding.name]]
    sides = (finding.side,) if finding.side in SIDES else SIDES
    default = None if finding.severity == "large" else ZONE_OF.get(finding.name)
    zones = finding.zones or ((default,) if default and finding.side in SIDES else ())
    return [f"{side} {zone} zone" for side in sides for zone in zones] or [f"{side} lung" for side in sides]


def roi_of(finding: Finding, regions: Regions, margin: float = 0.0) -> np.ndarray:
    """Where a finding lies, bool (H, W): fluid at a lung's base under a meniscus, an opacity in the round of its zone.

    Args:
        finding: from a parsed report.
        regions: masks by name, as `skiagraph.data.chest.anatomy.regions_of` gives them.
        margin: share of the picture's side by which the region is grown.

    Raises:
        DataError: the regions lack one that is needed, or it is empty.
    """
    names = region_names(finding)
    missing = [n for n in names if n not in regions]
    if missing:
        raise DataError(f"no mask of {', '.join(missing)}, where {finding.name} would lie")
    roi = np.logical_or.reduce([_part(finding, name, regions, margin) for name in names])
    if not roi.any():
        raise DataError(f"the region of {finding.name} ({', '.join(names)}) is empty in this picture")
    return roi


def _part(finding: Finding, name: str, regions: Regions, margin: float) -> np.ndarray:
    """What of one region a finding takes: a lung's base up to a meniscus, the round of a zone, or all of it."""
    side, part = name.split()[0], regions[name]
    lung = regions.get(f"{side} lung")
    if lung is None or not part.any():
        return _grown(part, margin)
    if finding.name == "effusion" and finding.zones in ((), ("lower",)):
        return _grown(lung, margin) & _below_meniscus(lung, side, finding.severity)
    return _grown(lung, margin) & _ellipse(part) if name.endswith("zone") else _grown(part, margin)


def _grown(mask: np.ndarray, margin: float) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask) <= margin * max(mask.shape) if mask.any() else mask


def _below_meniscus(lung: np.ndarray, side: str, severity: str | None) -> np.ndarray:
    """Rows of a picture below the surface of fluid in one lung, bool (H, W)."""
    middle, rise = LEVELS[severity]
    rows, columns = (np.flatnonzero(lung.any(axis=axis)) for axis in (1, 0))
    across = (np.arange(lung.shape[1]) - columns[0]) / max(1, columns[-1] - columns[0])
    to_wall = np.clip(across if side == "left" else 1 - across, 0, 1)
    surface = rows[-1] - (rows[-1] - rows[0]) * (middle + rise * to_wall**2)
    return np.arange(lung.shape[0])[:, None] >= surface


def _ellipse(zone: np.ndarray) -> np.ndarray:
    """An ellipse around the middle of a zone, bool (H, W)."""
    rows, columns = (np.flatnonzero(zone.any(axis=axis)) for axis in (1, 0))
    y, x = np.ogrid[: zone.shape[0], : zone.shape[1]]
    ways = ((y, rows, ROUND[0]), (x, columns, ROUND[1]))
    return sum(((at - (on[0] + on[-1]) / 2) / (half * len(on))) ** 2 for at, on, half in ways) <= 1


def roi_of_all(findings: Sequence[Finding], regions: Regions, margin: float = 0.0) -> np.ndarray:
    """Where any of the findings lies, bool (H, W): what an edit of all of them may change. Errors as `roi_of`."""
    return np.logical_or.reduce([roi_of(finding, regions, margin) for finding in findings])
