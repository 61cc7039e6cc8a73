"""nnU-Net v2's raw data: dataset.json, imagesTr, labelsTr, imagesTs, with PNG files.

Layout: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from skiagraph.data.layouts.case import (
    Case,
    case_of,
    drawn,
    read_json,
    read_labels,
    read_rows,
    write_as_png,
)
from skiagraph.data.masks import write_labels
from skiagraph.errors import DataError

TABLE = "cases.csv"
"""Table that our exports have and nnU-Net does not read: patients, splits and labels."""


def read(source: Path) -> list[Case]:
    """Cases of a `DatasetXXX_Name` folder whose images are PNG files, or other pictures, of one channel file each.

    Without our table each image is a patient, and imagesTs are the test split.

    Raises:
        DataError: no dataset.json, several channel files a case, or regions in the place of labels.
    """
    content = read_json(source / "dataset.json")
    classes, ending = _classes(content, source), str(content.get("file_ending", ".png"))
    table = source / TABLE
    known = {Path(row["file"]).name: row for row in read_rows(table, "file")} if table.is_file() else {}
    cases = []
    for part, split in (("Tr", ""), ("Ts", "test")):
        for path in sorted((source / f"images{part}").glob(f"*_0000{ending}")):
            name = path.name.removesuffix(f"_0000{ending}")
            if path.with_name(f"{name}_0001{ending}").is_file():
                raise DataError(f"{path} is one of several channels; only pictures of one file can be taken in")
            label = source / f"labels{part}" / f"{name}{ending}"
            mask = drawn(label, classes) if label.is_file() else None
            facts = {"split": split, "patient": name} | known.get(path.name, {})
            cases.append(case_of(facts, path, mask=mask, classes=classes))
    return cases


def write(cases: Mapping[str, Case], folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Write training and validation cases as Tr, test cases as Ts; yields picture and label of each.

    nnU-Net splits on its own; `splits_final.json` is what to copy into its preprocessed folder to keep ours.

    Raises:
        DataError: pictures in colour beside grey ones.
    """
    counted: set[int] = set()
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name, case in cases.items():
        part = "Ts" if case.split == "test" else "Tr"
        image, label = f"images{part}/{name}_0000.png", f"labels{part}/{name}.png"
        counted.add(write_as_png(case.image, folder / image))
        if len(counted) > 1:
            raise DataError(f"{case.image} has other channels than those before; nnU-Net needs one kind of picture")
        write_labels(folder / label, read_labels(case.mask, classes))
        split[case.split].append(name)
        yield image, label
    channels = ["grey"] if counted == {1} else ["red", "green", "blue"]
    content = {
        "channel_names": {str(k): name for k, name in enumerate(channels)},
        "labels": {"background": 0} | {name: k for k, name in enumerate(classes, start=1)},
        "numTraining": len(split["train"]) + len(split["val"]),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
        "description": _synthetic(cases),
    }
    (folder / "dataset.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    if split["val"]:
        folds = [{"train": split["train"], "val": split["val"]}]
        (folder / "splits_final.json").write_text(json.dumps(folds, indent=2), encoding="utf-8")


def _synthetic(cases: Mapping[str, Case]) -> str:
    return f"{sum(case.synthetic for case in cases.values())} of {len(cases)} pictures are synthetic; see {TABLE}"


def _classes(content: dict, source: Path) -> tuple[str, ...]:
    labels = content.get("labels")
    if not isinstance(labels, dict) or not all(isinstance(value, int) for value in labels.values()):
        raise DataError(f"{source}/dataset.json: labels must be numbers by name; regions cannot be taken in")
    return tuple(name for name, value in sorted(labels.items(), key=lambda item: item[1]) if value > 0)
