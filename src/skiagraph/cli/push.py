"""skiagraph push: DICOM files to an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.pull import Archive


def run(
    archive: Archive,
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
) -> dict[str, Any]:
    """Store DICOM files, such as masks of `skiagraph segment --format dicom-seg`, in ARCHIVE.

    Example: skiagraph push http://127.0.0.1:8042/dicom-web masks/masks
    """
    from skiagraph.engine.archive import push

    done = push(archive, paths)
    for row in done["failed"]:
        typer.echo(f"skiagraph: {row['error']}", err=True)
    typer.echo(f"{len(done['stored'])} files stored")
    return done
