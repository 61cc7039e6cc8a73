"""Editing cases of `edit_settings.py` and `edit_table.py`: held-out radiographs, a finding to add or to take away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from inspect import signature
from itertools import cycle, islice, zip_longest
from pathlib import Path

import numpy as np

from skiagraph.data.chest.anatomy import complete_regions
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.chest.changes import direction_of
from skiagraph.data.chest.roi import roi_of_all
from skiagraph.data.chest.wishes import read_wish
from skiagraph.data.datasets import Record, load_records
from skiagraph.data.images import read_radiograph, square
from skiagraph.engine.edit import MARGIN
from skiagraph.errors import DataError
from skiagraph.pipelines.organs import organ_regions

DATASETS = ("nih_chestxray14", "kermany_pneumonia")
WISHES = {
    "nih_chestxray14": (
        ("effusion", "Large left pleural effusion."),
        ("consolidation", "Right lower lobe consolidation."),
        ("cardiomegaly", "Cardiomegaly."),
        ("pneumonia", "Left lower lobe pneumonia."),
        ("atelectasis", "Right lower lobe atelectasis."),
        ("edema", "Pulmonary edema."),
    ),
    "kermany_pneumonia": (("pneumonia", "Right lower lobe pneumonia."), ("pneumonia", "Left lower lobe pneumonia.")),
}
"""Findings (names of the classifier's outputs) that normal radiographs of a dataset are to get."""


@dataclass(frozen=True)
class Case:
    """A radiograph, what it is to show (`to`) and shows (`source`), and the finding `added` or else taken away."""

    record: Record
    finding: str
    added: bool
    to: str
    source: str

    @property
    def name(self) -> str:
        """File name of its edit."""
        return f"{self.record.path.stem}-{'add' if self.added else 'remove'}-{self.finding}.png"


@dataclass(frozen=True)
class Prepared:
    """What `edit_image` is given for a case."""

    image: np.ndarray
    target: str
    source: str
    words: list[str]
    roi: np.ndarray
    anatomy: np.ndarray
    direction: int

    def arguments(self, editor: Callable) -> dict:
        """What a way of editing takes of it beside the image, by name."""
        return {k: v for k, v in vars(self).items() if k != "image" and k in signature(editor).parameters}


def prepared(split: str, n: int, root: str | Path | None, side: int) -> list[tuple[Case, Prepared]]:
    """The first n cases of a split in which two lungs are found."""
    both = ((case, prepare(case, side)) for case in cases(split, root))
    return list(islice(((case, given) for case, given in both if given is not None), n))


def cases(split: str, root: str | Path | None) -> list[Case]:
    """A fixed list: additions and removals, adults and children in turn, each patient once."""
    order = sorted(load_records(DATASETS, root, splits=[split]), key=lambda r: sha256(r.key.encode()).hexdigest())
    patients = list({(r.dataset, r.patient): r for r in order}.values())
    kinds = [kind for name in DATASETS for kind in (_additions(patients, name), _removals(patients, name))]
    adults_twice = [kinds[0][::2], kinds[1][::2], kinds[0][1::2], kinds[1][1::2], kinds[2], kinds[3]]
    return [c for turn in zip_longest(*adults_twice) for c in turn if c is not None]


def prepare(case: Case, side: int) -> Prepared | None:
    """Picture, prompts and masks of a case at the model's size; None where no two lungs are found."""
    radiograph = read_radiograph(case.record.path)
    image = square(radiograph.pixels, side, fit="pad")
    wish = read_wish(case.to, case.source)
    try:
        regions = complete_regions(organ_regions("shipped", image, radiograph))
    except DataError:
        return None
    return Prepared(
        image,
        wish.target,
        wish.source,
        wish.words,
        roi_of_all(wish.findings, regions, MARGIN),
        regions["lungs"] | regions["heart"],
        direction_of(wish.come, wish.go),
    )


def _additions(records: list[Record], dataset: str) -> list[Case]:
    normal = [r for r in records if r.dataset == dataset and "normal" in r.labels]
    return [
        Case(r, finding, True, wish, record_prompt(r))
        for r, (finding, wish) in zip(normal, cycle(WISHES[dataset]), strict=False)
    ]


def _removals(records: list[Record], dataset: str) -> list[Case]:
    wanted = list(dict.fromkeys(finding for finding, _ in WISHES[dataset]))
    found = [
        (r, next(f for f in wanted if f in r.labels))
        for r in records
        if r.dataset == dataset and set(wanted) & r.labels
    ]
    return [Case(r, finding, False, "Normal chest.", record_prompt(r)) for r, finding in found]
