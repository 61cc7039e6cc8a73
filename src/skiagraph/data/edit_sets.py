"""Edited pictures beside their originals: what `skiagraph edit` wrote, or a table of what was edited elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skiagraph.data.tables import read_table
from skiagraph.errors import DataError


@dataclass(frozen=True)
class EditPair:
    """One edit.

    name: of the edit.
    before, after: the pictures.
    region: a picture that is white where the edit was allowed; None where it is not known.
    come, go: findings that it was to show, and to show no more.
    """

    name: str
    before: Path
    after: Path
    region: Path | None
    come: tuple[str, ...]
    go: tuple[str, ...]


def read_edits(text: str) -> list[EditPair]:
    """Edits of a folder that `skiagraph edit` wrote, of each the strongest, or of a table.

    A table is a CSV with the columns before, after and, where they are known, come and go (findings, with semicolons)
    and region; its paths are relative to it.

    Raises:
        DataError: no such folder or table, or no edits in it.
    """
    path = Path(text)
    found = list(_of_table(path) if path.suffix.lower() == ".csv" else _of_run(path))
    if not found:
        raise DataError(f"{text} holds no edits")
    gone = next((file for pair in found for file in (pair.before, pair.after) if not file.is_file()), None)
    if gone is not None:
        raise DataError(f"{text} names {gone}, which is not there")
    return found


def _of_table(path: Path) -> Iterator[EditPair]:
    for number, row in enumerate(read_table(path, "before", "after")):
        come, go = (tuple(filter(None, map(str.strip, (row.get(k) or "").split(";")))) for k in ("come", "go"))
        region = path.parent / row["region"] if row.get("region") else None
        yield EditPair(f"{number:05d}", path.parent / row["before"], path.parent / row["after"], region, come, go)


def _of_run(folder: Path) -> Iterator[EditPair]:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["verb"] != "edit":
            raise DataError(f"{folder} was written by skiagraph {manifest['verb']}, not by edit")
        rows = manifest.get("edits", [manifest])
        yield from (_of_row(folder / row.get("folder", ""), folder, row) for row in rows)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{folder} is neither a table nor a finished run of skiagraph edit ({error})") from error


def _of_row(own: Path, folder: Path, row: dict[str, Any]) -> EditPair:
    last, region = row["frames"][-1], own / "region.png"
    come, go = (tuple(r["finding"] for r in last["read"] if r["wanted"] is wanted) for wanted in (True, False))
    name = row.get("folder") or folder.name
    return EditPair(name, own / "before.png", folder / last["file"], region if region.is_file() else None, come, go)
