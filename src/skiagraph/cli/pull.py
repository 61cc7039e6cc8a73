"""skiagraph pull: a study from an archive."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from skiagraph.cli.options import Output, Overwrite

Archive = Annotated[
    str, typer.Argument(help="Address of an archive that speaks DICOMweb. Name and password stand in ~/.netrc.")
]


def run(
    archive: Archive,
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    output: Output,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Bring the files of STUDY from ARCHIVE into OUTPUT, a folder a series; the same command goes on where it stopped.

    Example: skiagraph pull http://127.0.0.1:8042/dicom-web 1.2.840.99 -o study
    """
    from skiagraph.engine.archive import pull

    manifest = pull(archive, study, output, overwrite=overwrite)
    typer.echo(f"{len(manifest['images'])} files in {output}")
    return manifest
