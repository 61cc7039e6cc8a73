"""Hugging Face's imagefolder: pictures with metadata.jsonl or metadata.csv, one folder a split.

Layout: https://huggingface.co/docs/datasets/image_dataset
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skiagraph.data.images import PICTURES
from skiagraph.data.layouts.case import SPLITS, Case, case_of, copy_file, read_rows
from skiagraph.errors import DataError

FOLDERS = {"train": "train", "val": "validation", "test": "test"}


def read(source: Path) -> list[Case]:
    """Cases of every metadata.csv or metadata.jsonl below `source`, or of pictures in one folder a class.

    The folder's name is the split where the rows name none. Columns are those of `Case.facts`, `text` for the report,
    and `mask_file_name`.

    Raises:
        DataError: neither tables nor pictures, or a row without `file_name`.
    """
    tables = sorted([*source.rglob("metadata.jsonl"), *source.rglob("metadata.csv")])
    if not tables:
        return _by_class(source)
    return [_case(table, row, _split(table.parent, source)) for table in tables for row in _rows(table)]


def write(cases: Mapping[str, Case], folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Write `train/`, `validation/` and `test/` with a metadata.jsonl each; yields picture and mask of each case."""
    lines: dict[str, list[str]] = {}
    for name, case in cases.items():
        part = folder / FOLDERS[case.split]
        row: dict[str, Any] = {"file_name": f"{name}{case.image.suffix.lower()}"}
        copy_file(case.image, part / row["file_name"])
        if case.mask:
            row["mask_file_name"] = f"masks/{name}.png"
            copy_file(case.mask, part / row["mask_file_name"])
        lines.setdefault(FOLDERS[case.split], []).append(json.dumps(row | case.facts(), ensure_ascii=False))
        yield f"{part.name}/{row['file_name']}", f"{part.name}/{row['mask_file_name']}" if case.mask else ""
    for part, rows in lines.items():
        (folder / part / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _rows(table: Path) -> list[dict[str, Any]]:
    if table.suffix == ".csv":
        return read_rows(table, "file_name")
    try:
        return [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{table} cannot be read ({error}); give one JSON object a line") from error


def _case(table: Path, row: dict[str, Any], split: str) -> Case:
    if not row.get("file_name"):
        raise DataError(f"{table} has a row without file_name; imagefolder needs it")
    mask = table.parent / row["mask_file_name"] if row.get("mask_file_name") else None
    return case_of({"split": split} | row, table.parent / row["file_name"], mask=mask)


def _by_class(source: Path) -> list[Case]:
    pictures = [p for p in sorted(source.rglob("*")) if p.suffix.lower() in PICTURES]
    if not pictures:
        raise DataError(f"{source} has no metadata.csv, no metadata.jsonl and no pictures; is it an imagefolder?")
    return [case_of({"labels": [p.parent.name], "split": _split(p.parent, source)}, p) for p in pictures]


def _split(folder: Path, source: Path) -> str:
    return next((SPLITS[part.lower()] for part in folder.relative_to(source).parts if part.lower() in SPLITS), "")
