"""Region of interest of a finding: from its words to a part of a picture, by side, zone and organ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from skiagraph.data.chest.anatomy import SIDES, Regions
from skiagraph.data.chest.reports import Finding
from skiagraph.errors import DataError

ORGANS = {"cardiomegaly": "heart"}
"""Findings that belong to another organ than the lungs."""

ZONE_OF = {"effusion": "lower"}
"""Where a finding is looked for when its side is named and no zone is."""


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
    """Where a finding lies, bool (H, W).

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
    roi = np.logical_or.reduce([regions[n] for n in names])
    if not roi.any():
        raise DataError(f"the region of {finding.name} ({', '.join(names)}) is empty in this picture")
    return ndimage.distance_transform_edt(~roi) <= margin * max(roi.shape)


def roi_of_all(findings: Sequence[Finding], regions: Regions, margin: float = 0.0) -> np.ndarray:
    """Where any of the findings lies, bool (H, W): what an edit of all of them may change. Errors as `roi_of`."""
    return np.logical_or.reduce([roi_of(finding, regions, margin) for finding in findings])
