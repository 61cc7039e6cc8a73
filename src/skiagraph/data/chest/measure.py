"""What can be measured on a frontal radiograph with its lung masks: density per zone, lung size, heart width.

Raw measures depend on exposure and age, so they are read as standard scores against the normal cohort of the same kind
of patient and view.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from skiagraph.data.chest.anatomy import SIDES, ZONES, regions_of_lungs
from skiagraph.data.datasets import Record
from skiagraph.data.masks import Regions

Measures = Mapping[str, float]
Cohorts = Mapping[str, Mapping[str, tuple[float, float]]]
"""Cohort name to measure name to (mean, standard deviation)."""

MEASURE_NAMES = (
    *(f"density {side} {zone} zone" for side in SIDES for zone in ZONES),
    "lung height",
    "area ratio",
    "base density difference",
    "base height difference",
    "heart width",
)


def measure(pixels: np.ndarray, regions: Regions) -> dict[str, float]:
    """Raw measures of one radiograph.

    Args:
        pixels: float (H, W) in [0, 1], bright = dense.
        regions: from `skiagraph.data.chest.anatomy.regions_of`, bool (H, W).

    Returns:
        `MEASURE_NAMES` to: density, the zone's median between the 5th (0) and 95th (1) percentile of the thorax's box;
        lung height as a share of the picture; log ratio of right to left lung area; right minus left density of the
        outer lower thorax and, as a share of the thorax's height, how much higher the right lung ends than the left;
        heart width as a share of the thorax's (a cardiothoracic ratio where the heart's border can be seen).
    """
    thorax = _thorax(pixels, regions["lungs"])
    low, high = np.percentile(thorax, [5, 95])
    span = max(float(high - low), 1e-3)
    values = {
        f"density {side} {zone} zone": float((_median(pixels, regions[f"{side} {zone} zone"], low) - low) / span)
        for side in SIDES
        for zone in ZONES
    }
    rows = np.flatnonzero(regions["lungs"].any(axis=1))
    values["lung height"] = (rows[-1] - rows[0] + 1) / pixels.shape[0]
    values["area ratio"] = float(np.log(regions["right lung"].sum() / regions["left lung"].sum()))
    values["base density difference"] = _base_density_difference(pixels, regions) / span
    ends = {side: np.flatnonzero(regions[f"{side} lung"].any(axis=1))[-1] for side in SIDES}
    values["base height difference"] = float(ends["left"] - ends["right"]) / (rows[-1] - rows[0] + 1)
    values["heart width"] = _heart_width(pixels, regions, threshold=low + 0.6 * span)
    return values


def fit_cohorts(measured: Iterable[tuple[str, Measures]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation of every measure per cohort, from (cohort, measures) of normal radiographs."""
    collected: dict[str, list[list[float]]] = defaultdict(list)
    for cohort, values in measured:
        collected[cohort].append([values[name] for name in MEASURE_NAMES])
    return {
        cohort: {
            name: (float(column.mean()), max(float(column.std()), 1e-3))
            for name, column in zip(MEASURE_NAMES, np.array(rows).T, strict=True)
        }
        for cohort, rows in collected.items()
    }


def standard_scores(values: Measures, cohort: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Measures in standard deviations from the cohort's mean."""
    return {name: (values[name] - cohort[name][0]) / cohort[name][1] for name in MEASURE_NAMES}


def scores_of(
    records: Sequence[Record], pictures: Sequence[np.ndarray], found: Sequence[np.ndarray], cohorts: Cohorts | None
) -> tuple[list[dict[str, float] | None], Cohorts]:
    """Standard scores of radiographs, uint8 (H, W), with label maps of their lungs, and the cohorts they refer to.

    Cohorts are fitted on the records labelled normal where none are given. Scores are None where a lung was not found,
    and everywhere where there is no cohort to compare with, as in a dataset of reports without labels.
    """
    regions = map(regions_of_lungs, found)
    raw = [r and measure(p.astype(np.float32) / 255, r) for p, r in zip(pictures, regions, strict=True)]
    if cohorts is None:
        both = zip(records, raw, strict=True)
        cohorts = fit_cohorts((cohort_name(r.is_child, r.view), m) for r, m in both if m and "normal" in r.labels)
    known = list(cohorts)
    scores = [
        None if m is None or not known else standard_scores(m, cohorts[cohort_name(r.is_child, r.view, known)])
        for r, m in zip(records, raw, strict=True)
    ]
    return scores, cohorts


def cohort_name(is_child: bool | None, view: str | None, known: Sequence[str] | None = None) -> str:
    """ "child", "adult AP" or "adult PA"; an unknown age counts as adult, an unknown view as PA.

    Where `known` lacks the name, the first of `known` that begins alike, else the first of all.
    """
    name = "child" if is_child else f"adult {view if view == 'AP' else 'PA'}"
    if known is None or name in known:
        return name
    return next((k for k in known if k.split()[0] == name.split()[0]), next(iter(known)))


def _thorax(pixels: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _median(pixels: np.ndarray, zone: np.ndarray, empty: float) -> float:
    return float(np.median(pixels[zone])) if zone.any() else float(empty)


def _base_density_difference(pixels: np.ndarray, regions: Regions) -> float:
    """Right minus left mean of mirrored boxes: the lower 40 % of the thorax, without the inner 45 % of each half.

    Boxes rather than lung masks, which leave out a lung's part that fluid hides.
    """
    rows, columns = (np.flatnonzero(regions["lungs"].any(axis=axis)) for axis in (1, 0))
    middle = _midline(regions)
    half = max(middle - columns[0], columns[-1] - middle)
    base = pixels[rows[0] + int(0.6 * (rows[-1] - rows[0] + 1)) : rows[-1] + 1]
    inner = int(0.45 * half)
    right, left = base[:, max(0, middle - half) : middle - inner], base[:, middle + inner : middle + half]
    return float(right.mean() - left.mean()) if right.size and left.size else 0.0


def _midline(regions: Regions) -> int:
    right_edge = np.flatnonzero(regions["right lung"].any(axis=0))[-1]
    left_edge = np.flatnonzero(regions["left lung"].any(axis=0))[0]
    return int((right_edge + left_edge) // 2)


def _heart_width(pixels: np.ndarray, regions: Regions, threshold: float) -> float:
    """Width of the dense strip around the midline in the third quarter of the thorax's height, over its width."""
    lungs = regions["lungs"]
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    midline = _midline(regions)
    widths = []
    for row in range(rows[0] + height // 2, rows[0] + (3 * height) // 4):
        clear = np.flatnonzero(pixels[row] < threshold)
        start = clear[clear < midline].max(initial=columns[0] - 1)
        end = clear[clear > midline].min(initial=columns[-1] + 1)
        widths.append(end - start - 1)
    return float(np.percentile(widths, 90) / width) if widths else 0.5
