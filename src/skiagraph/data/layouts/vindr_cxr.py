"""VinDr-CXR 1.0 (Nguyen et al. 2022), as PhysioNet publishes it: DICOM files and tables of image labels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from skiagraph.data.layouts.case import Case, read_rows
from skiagraph.errors import DataError

NOT_FINDINGS = ("image_id", "rad_id")


def read(source: Path) -> list[Case]:
    """Cases of `train/<image_id>.dicom` and `test/<image_id>.dicom`, with the published split.

    Three radiologists read each training image: what two or more of them saw is present, what one saw is in doubt. Test
    labels are a consensus. All images are PA. Patients are not published: each image is one of its own.

    Raises:
        DataError: no table, or one that lacks a column.
    """
    tables = {s: source / "annotations" / f"image_labels_{s}.csv" for s in ("train", "test")}
    tables = {split: path for split, path in tables.items() if path.is_file()}
    if not tables:
        raise DataError(f"{source}/annotations has no image_labels_train.csv; give the folder of VinDr-CXR")
    return [case for split, path in tables.items() for case in _cases(source, split, read_rows(path, "image_id"))]


def _cases(source: Path, split: str, rows: list[dict[str, str]]) -> list[Case]:
    readings: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        readings[row["image_id"]].append(row)
    return [_case(source, split, name, read) for name, read in readings.items()]


def _case(source: Path, split: str, name: str, readings: list[dict[str, str]]) -> Case:
    names = [column for column in readings[0] if column not in NOT_FINDINGS]
    votes = {column: sum(row[column].removesuffix(".0") == "1" for row in readings) for column in names}
    present = tuple(column for column, count in votes.items() if 2 * count > len(readings))
    doubtful = tuple(column for column, count in votes.items() if count and column not in present)
    return Case(source / split / f"{name}.dicom", name, split, present, doubtful, view="PA")
