"""CSV files that people write: with the columns that are needed, or an error that names file and line.

`examples/...` are the package's own where there is no such file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

from skiagraph.errors import DataError
from skiagraph.files import given_or_shipped

DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


def read_table(path: Path, *columns: str) -> list[dict[str, str]]:
    """Rows of a CSV file by column name; a quoted text may run over several lines.

    Column names are read without regard to case and to spaces around them, and are lower-case in the rows. A cell that
    a row lacks is "".

    Args:
        path: of the file, in UTF-8.
        columns: lower-case names of those it must have, filled in in every row.

    Raises:
        DataError: the file is missing, not text, not CSV, separated by something other than commas, empty, or lacks a
            column; or a cell of `columns` is empty (its line is named).
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    line, rows = 1, []
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        _check_columns(path, names, columns)
        line = reader.line_num + 1
        for cells in reader:
            row = dict(zip(names, cells, strict=False))
            if cells:
                _check_row(path, line, row, columns)
                rows.append({name: row.get(name, "") for name in names})
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, from line {line}: not valid CSV ({error}); close its quotes") from error
    if not rows:
        raise DataError(f"{path} has no rows below its column names")
    return rows


def read_reports(path: Path) -> tuple[str, ...]:
    """Reports of a CSV file with a column `report`, or of a text file with one report a line.

    Raises:
        DataError: as `read_table`, or a text file without any.
    """
    if path.suffix.lower() == ".csv":
        return tuple(row["report"].strip() for row in read_table(path, "report"))
    reports = tuple(line.strip() for line in _text(path).splitlines() if line.strip())
    if not reports:
        raise DataError(f"{path} holds no report")
    return reports


def _check_columns(path: Path, names: list[str], columns: Collection[str]) -> None:
    lacking = [column for column in columns if column not in names]
    if not lacking:
        return
    for delimiter, called in DELIMITERS.items():
        if len(names) == 1 and delimiter in names[0]:
            raise DataError(f"{path} is separated by {called}; save it as CSV with commas")
    raise DataError(f"{path} has no column {lacking[0]!r}; its columns are {', '.join(filter(None, names)) or 'none'}")


def _check_row(path: Path, line: int, row: dict[str, str], columns: Collection[str]) -> None:
    for column in columns:
        if not row.get(column, "").strip():
            raise DataError(f"{path}: empty {column} in line {line}; fill in or remove it")


def _text(path: Path) -> str:
    try:
        return given_or_shipped(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); give a file in UTF-8") from error
