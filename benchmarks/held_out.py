"""Pictures that benchmarks judge on: of patients never seen, of the same source and, for lungs, of another hospital."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np

from skiagraph.data.datasets import Record
from skiagraph.data.images import read_radiograph, square

REAL = "kermany_pneumonia"
LUNGS = {"children, same source": REAL, "adults, elsewhere": "covid_chestxray_ccby"}
"""Data sets whose test split is used, by the name a table gives them."""

POLYPS = ("cvc_clinicdb", "cvc_clinicdb_by_frame")
"""Data sets in colour: split by sequence, and by frame as published."""


def test_sets(dataset: str) -> dict[str, str]:
    """Test sets of what is trained on `dataset`, by a table's name for them."""
    return LUNGS if dataset == REAL else {dataset: dataset}


def evenly(count: int, most: int) -> np.ndarray:
    """At most so many of `count` cases, evenly chosen: their indices."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def one_per_patient(records: list[Record], seed: int) -> list[Record]:
    """One radiograph of each patient, drawn among those with labels."""
    shuffled = random.Random(seed).sample(records, len(records))
    return list({(r.dataset, r.patient): r for r in shuffled if r.labels}.values())


def squares(records: Iterable[Record], side: int, fit: str) -> np.ndarray:
    """Their radiographs, float32 (n, side, side) in [0, 1]; `fit` as in `skiagraph.data.images.square`."""
    return np.stack([square(read_radiograph(r.path).pixels, side, fit=fit) for r in records])
