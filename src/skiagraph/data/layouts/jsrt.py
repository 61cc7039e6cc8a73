"""JSRT (Shiraishi et al. 2000) with the lung masks of SCR (van Ginneken et al. 2006)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from skiagraph.data.layouts.case import Case, read_rows, sex_of, years
from skiagraph.data.layouts.two_masks import SIDES, both_lungs
from skiagraph.errors import DataError

NODULE = (
    "file", "subtlety", "size", "age", "sex", "x", "y", "state", "place", "diagnosis",
)  # fmt: skip
"""Columns of `CLNDAT_EN.txt`, which has tabs and no header."""

NO_NODULE = ("file", "age", "sex", "diagnosis")
"""Columns of `CNNDAT_EN.TXT`."""


def read(source: Path) -> list[Case]:
    """Cases of PNG files named as the published ones, `JPCLN001.png` or `JPCNN001.png`, anywhere below `source`.

    The published `.IMG` files are bare pixels of 2048 x 2048 big-endian 12-bit numbers: convert them first. Masks are
    SCR's `fold*/masks/left lung/*.gif` and `right lung`, brought to the picture's size. Each image is a patient.

    Raises:
        DataError: neither clinical table is there, or no PNG file.
    """
    pictures = {path.stem.upper(): path for path in source.rglob("JP*.png")}
    if not pictures:
        raise DataError(f"{source} has no JPCLN001.png or the like; convert the .IMG files to PNG")
    tables = {path.name.upper(): path for path in source.rglob("C*NDAT_EN.*")}
    known = {
        row["file"].split(".")[0].upper(): row
        for name, columns in (("CLNDAT_EN.TXT", NODULE), ("CNNDAT_EN.TXT", NO_NODULE))
        if name in tables
        for row in read_rows(tables[name], names=columns, delimiter="\t")
    }
    if not known:
        raise DataError(f"{source} has neither CLNDAT_EN.txt nor CNNDAT_EN.TXT; add the clinical tables")
    masks = {(path.parent.name, path.stem.upper()): path for path in source.rglob("*lung/*.gif")}
    return [_case(stem, path, known.get(stem, {}), masks) for stem, path in sorted(pictures.items())]


def _case(stem: str, path: Path, row: dict[str, str], masks: dict[tuple[str, str], Path]) -> Case:
    right, left = (masks.get((side, stem)) for side in SIDES)
    return Case(
        path, stem, findings=("nodule",) if stem.startswith("JPCLN") else ("normal",), view="PA",
        age=years(row.get("age")), sex=sex_of(row.get("sex")),
        mask=partial(both_lungs, right, left, path) if right and left else None, classes=SIDES,
    )  # fmt: skip
