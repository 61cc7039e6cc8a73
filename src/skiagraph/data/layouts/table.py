"""A CSV table with one row a picture, under any column names; our own folders are such, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from skiagraph.data.layouts.case import Case, case_of, copy_file, read_rows
from skiagraph.errors import DataError

COLUMNS = ("file", "patient", "split", "report", "labels", "view", "age", "sex", "hospital", "mask", "synthetic")
"""What a column may be mapped to; these are also the columns of the folders that are written."""


def read(source: Path, columns: Mapping[str, str] | None = None) -> list[Case]:
    """Cases of a CSV file, or of `metadata.csv` in a folder.

    Args:
        source: the table or its folder; files are relative to the folder.
        columns: names of the table's columns by ours (`COLUMNS`), where they differ.

    Raises:
        DataError: no table, an unknown name, or a column that is missing.
    """
    columns = dict(columns or {})
    if unknown := set(columns) - set(COLUMNS):
        raise DataError(f"column {sorted(unknown)[0]!r} is unknown; map {', '.join(COLUMNS)}")
    table = source / "metadata.csv" if source.is_dir() else source
    theirs = {name: columns.get(name, name) for name in COLUMNS}
    cases = []
    for row in read_rows(table, theirs["file"], *columns.values()):
        facts = {name: row.get(column, "") for name, column in theirs.items()}
        mask = table.parent / facts["mask"] if facts["mask"] else None
        cases.append(case_of(facts, table.parent / facts["file"], mask=mask))
    return cases


def write(cases: Mapping[str, Case], folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Copy `images/` and `masks/`; yields picture and mask of each case, for the table that every export has."""
    for name, case in cases.items():
        image, mask = f"images/{name}{case.image.suffix.lower()}", f"masks/{name}.png" if case.mask else ""
        copy_file(case.image, folder / image)
        if case.mask:
            copy_file(case.mask, folder / mask)
        yield image, mask
