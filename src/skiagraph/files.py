"""Files that are either whole or absent: everything is written under a temporary name and renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from skiagraph.errors import SkiagraphError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling path (file or folder) that replaces `target` when the block succeeds.

    On any error, a full disk and Ctrl-C included, the temporary is removed and `target` is left as it was.

    Raises:
        SkiagraphError: as `make_folder`.
    """
    target = Path(target)
    make_folder(target.parent)
    temporary = target.parent / f".{target.name}.{uuid4().hex[:8]}.tmp{target.suffix}"
    try:
        yield temporary
        _replace(temporary, target)
    finally:
        remove(temporary)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        SkiagraphError: a place where the system makes no folders, such as /proc.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise SkiagraphError(f"no folder can be made at {folder}; choose another --output") from error


def write_json(target: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weight_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every weight file below a model folder, by relative path."""
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*.safetensors"))}


def given_or_shipped(path: str | Path) -> Path:
    """The file at a path or, where there is none, the package's own of that name: `recipes/...`, `examples/...`."""
    own = Path(__file__).parent / path
    return own if not Path(path).exists() and own.is_file() else Path(path)


def _replace(temporary: Path, target: Path) -> None:
    if temporary.is_dir() and target.is_dir():
        old = temporary.with_suffix(".old")
        os.replace(target, old)
        try:
            os.replace(temporary, target)
        except OSError:
            os.replace(old, target)
            raise
        shutil.rmtree(old)
    else:
        os.replace(temporary, target)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
