"""Reports and prompts that users bring: CSV files with a column of texts, or text files with one a line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from skiagraph.errors import ReportError


def read_reports(path: Path) -> tuple[str, ...]:
    """Reports of a CSV file with a column `report`, or of a text file with one report a line.

    Raises:
        ReportError: the file is missing, not text, lacks the column, or has an empty report (its line is named).
    """
    if path.suffix.lower() == ".csv":
        return tuple(row["report"].strip() for row in read_table(path, "report"))
    reports = tuple(line.strip() for line in _text(path).splitlines() if line.strip())
    if not reports:
        raise ReportError(f"{path} holds no report")
    return reports


def read_table(path: Path, column: str) -> list[dict[str, str]]:
    """Rows of a CSV file of reports or prompts, where `column` is filled in; a quoted text may run over several lines.

    Raises:
        ReportError: the file is missing, not text, lacks the column, or has it empty somewhere (the line is named).
    """
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    found, first_line = [], 2
    try:
        for row in rows:
            if column not in row:
                raise ReportError(f"{path} has no column {column!r}; its columns are {', '.join(filter(None, row))}")
            if not (row[column] or "").strip():
                raise ReportError(f"{path}: empty {column} in line {first_line}; fill in or remove it")
            found.append(row)
            first_line = rows.line_num + 1
    except csv.Error as error:
        raise ReportError(f"{path}, from line {first_line}: not valid CSV ({error}); close its quotes") from error
    if not found:
        raise ReportError(f"{path} holds no {column}")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from error
