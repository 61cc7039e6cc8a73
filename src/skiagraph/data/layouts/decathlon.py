"""The Medical Segmentation Decathlon's dataset.json, as MONAI's `load_decathlon_datalist` reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skiagraph.data.layouts.case import Case, case_of, drawn, read_json, read_labels, write_as_png
from skiagraph.data.masks import write_labels
from skiagraph.errors import DataError

LISTS = {"train": "training", "val": "validation", "test": "test"}


def read(source: Path) -> list[Case]:
    """Cases of `dataset.json`'s lists training, validation and test; images are pictures, not volumes.

    Raises:
        DataError: no dataset.json, or an entry without an image.
    """
    content = read_json(source / "dataset.json")
    labels = content.get("labels") or {}
    classes = tuple(str(name) for key, name in sorted(labels.items(), key=lambda item: int(item[0])) if int(key) > 0)
    entries = [(split, entry) for split, name in LISTS.items() for entry in content.get(name) or []]
    if "validation" not in content:  # then the published layout has no split beside the test images
        entries = [("test" if split == "test" else "", entry) for split, entry in entries]
    return [_case(source, split, entry, classes) for split, entry in entries]


def write(cases: Mapping[str, Case], folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Write `imagesTr`, `labelsTr`, `imagesTs`, `labelsTs` and dataset.json; yields picture and label of each."""
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS.values()}
    for name, case in cases.items():
        part = "Ts" if case.split == "test" else "Tr"
        image, label = f"images{part}/{name}.png", f"labels{part}/{name}.png" if case.mask else ""
        write_as_png(case.image, folder / image)
        if case.mask:
            write_labels(folder / label, read_labels(case.mask, classes))
        files = {"image": f"./{image}"} | ({"label": f"./{label}"} if label else {})
        lists[LISTS[case.split]].append(files | case.facts())
        yield image, label
    content = {
        "name": "skiagraph",
        "description": f"{sum(c.synthetic for c in cases.values())} of {len(cases)} pictures are synthetic",
        "tensorImageSize": "2D",
        "modality": {"0": "X-ray"},
        "labels": {"0": "background"} | {str(k): name for k, name in enumerate(classes, start=1)},
        "numTraining": len(lists["training"]),
        "numTest": len(lists["test"]),
    }
    (folder / "dataset.json").write_text(json.dumps(content | lists, indent=2, ensure_ascii=False), encoding="utf-8")


def _case(source: Path, split: str, entry: Any, classes: tuple[str, ...]) -> Case:
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not entry.get("image"):
        raise DataError(f"{source}/dataset.json has an entry without image: {str(entry)[:80]}")
    facts = {k: v for k, v in entry.items() if k != "label"}
    label = source / entry["label"] if entry.get("label") else None
    mask = drawn(label, classes) if label else None
    return case_of(facts | {"split": split}, source / entry["image"], mask=mask, classes=classes)
