"""Rows of a long job, one line each as it is done: what a job killed at any moment goes on from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """A file of JSON lines, on the disk before `append` returns.

    Opening it reads the rows of an earlier run and cuts off a last line that was not written to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if not path.exists():
            return
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        os.truncate(path, len(whole))
        self.rows = [json.loads(line) for line in whole.splitlines()]

    def append(self, row: dict[str, Any]) -> None:
        """Add a row, for good."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as stream:
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.rows.append(row)
