"""NIH ChestX-ray14 (Wang et al. 2017), the table of 2017 or that of 2020."""

from __future__ import annotations

from pathlib import Path

from skiagraph.data.layouts.case import Case, read_rows, sex_of, years
from skiagraph.errors import DataError

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")


def read(source: Path) -> list[Case]:
    """Cases of the images below `images/`, `images_001/images/`, ...

    Test patients are those of `test_list.txt`, where it is there; "train_val_list.txt" is not split further.

    Raises:
        DataError: no table, or one that lacks a column.
    """
    table = next((source / name for name in TABLES if (source / name).is_file()), None)
    if table is None:
        raise DataError(f"{source} has none of {', '.join(TABLES)}; give the folder of ChestX-ray14")
    places = {path.name: path for path in source.glob("images*/**/*.png")}
    lists = {split: _list(source / f"{name}_list.txt") for split, name in (("train", "train_val"), ("test", "test"))}
    needed = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position")
    return [
        Case(
            places.get(row["Image Index"], source / "images" / row["Image Index"]),
            row["Patient ID"],
            next((split for split, names in lists.items() if row["Image Index"] in names), ""),
            tuple(row["Finding Labels"].split("|")),
            view=row["View Position"],
            age=years(row["Patient Age"]),
            sex=sex_of(row.get("Patient Sex") or row.get("Patient Gender")),
        )
        for row in read_rows(table, *needed)
    ]


def _list(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").split()) if path.is_file() else set()
