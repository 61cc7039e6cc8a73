"""Judges of findings for benchmarks: the shipped classifier, and probes of ImageNet networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import track

from held_out import squares
from skiagraph.data.chest.targets import TARGETS, targets_of
from skiagraph.data.datasets import Record, load_records
from skiagraph.evaluation import MetricResult
from skiagraph.evaluation.classification import auroc
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.evaluation.judges import ClassifierJudge, Judge, ProbeJudge
from skiagraph.files import atomic_path

DATASETS = ("kermany_pneumonia", "nih_chestxray14", "nih_chestxray14_more", "montgomery")
SIDE, CHUNK = 256, 256

TUNING = "efficientnet-lite1"
"""Network of the judge that settings are chosen by; it reports nothing."""

REPORTING = "efficientnet-lite2"


def reporting_judges(root: str | Path | None, cache: Path) -> list[Judge]:
    """The two that report: another network, another training, another resolution each."""
    return [ClassifierJudge(), probe(REPORTING, root, cache)]


def probe(network: str, root: str | Path | None, cache: Path) -> ProbeJudge:
    """A probe of training patients' radiographs; their features are kept in the folder `cache`."""
    extractor = ImageNetExtractor(network)
    records = load_records(DATASETS, root, splits=["train"])
    path = cache / f"{extractor.name}-train.npy"
    if not path.is_file():
        parts = [records[start : start + CHUNK] for start in range(0, len(records), CHUNK)]
        found = [
            extractor.features(squares(part, SIDE, "crop")) for part in track(parts, f"features by {extractor.name}")
        ]
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, np.concatenate(found))
    patients = np.array([f"{r.dataset}/{r.patient}" for r in records])
    targets = np.array([targets_of(r) for r in records])
    return ProbeJudge(extractor.features, extractor.name, np.load(path), targets, list(TARGETS), patients)


def label_aurocs(records: list[Record], scores: dict[str, np.ndarray], least: int) -> dict[str, MetricResult]:
    """AUROC of a judge's scores (n,) against each label of the records, where at least so many are on each side."""
    targets = np.array([targets_of(r) for r in records])
    found = {}
    for index, name in enumerate(TARGETS):
        known = ~np.isnan(targets[:, index])
        truth = targets[known, index].astype(int)
        if name in scores and min(truth.sum(), len(truth) - truth.sum()) >= least:
            found[name] = auroc(truth, scores[name][known])
    return found
