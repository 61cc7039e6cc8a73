"""CheXpert 1.0 (Irvin et al. 2019), full or small: train.csv, valid.csv and, where it is there, test.csv."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from skiagraph.data.layouts.case import Case, read_rows, sex_of, years
from skiagraph.errors import DataError

SPLITS = {"train.csv": "train", "valid.csv": "val", "test.csv": "test"}
NOT_FINDINGS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")


def read(source: Path) -> list[Case]:
    """Cases of the tables; the folder that `Path` begins with is `source` itself. 1 is present, -1 is in doubt.

    Raises:
        DataError: no table, or one that lacks a column.
    """
    tables = [name for name in SPLITS if (source / name).is_file()]
    if not tables:
        raise DataError(f"{source} has none of {', '.join(SPLITS)}; give the folder of CheXpert-v1.0")
    return [_case(source, row, SPLITS[name]) for name in tables for row in read_rows(source / name, "Path")]


def findings_of(row: dict[str, str], skip: Collection[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of columns that a labeller's row calls present (1), and of those in doubt (-1)."""
    values = {name: value.strip().removesuffix(".0") for name, value in row.items() if name not in skip}
    return tuple(n for n, v in values.items() if v == "1"), tuple(n for n, v in values.items() if v == "-1")


def _case(source: Path, row: dict[str, str], split: str) -> Case:
    parts = Path(row["Path"]).parts
    patient = next((part for part in parts if part.startswith("patient")), "")
    if not patient:
        raise DataError(f"{source}: path {row['Path']!r} names no patient; is this the published table?")
    findings, uncertain = findings_of(row, NOT_FINDINGS)
    lateral = row.get("Frontal/Lateral") == "Lateral" or "lateral" in parts[-1]
    return Case(
        source / Path(*parts[1:]) if parts[0].startswith("CheXpert") else source / row["Path"],
        patient, split, findings, uncertain, view="LATERAL" if lateral else row.get("AP/PA", ""),
        age=years(row.get("Age")), sex=sex_of(row.get("Sex")),
    )  # fmt: skip
