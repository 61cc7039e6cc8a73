"""skiagraph export: a data set, or what a verb wrote, to a layout that others read."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Output, Overwrite


class Format(StrEnum):
    """Layouts that are written."""

    imagefolder = "imagefolder"
    coco = "coco"
    nnunet = "nnunet"
    decathlon = "decathlon"
    webdataset = "webdataset"
    csv = "csv"
    dicom = "dicom"


def run(
    source: Annotated[str, typer.Argument(help="Folder with metadata.csv, a known name, or what a verb wrote.")],
    output: Output,
    form: Annotated[Format, typer.Option("--format", help="What to write.")],
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Write SOURCE in a layout that others read, with a data card and Croissant metadata.

    Example: skiagraph export out/pairs --format nnunet -o nnUNet_raw/Dataset101_Lungs
    """
    from skiagraph.engine.exchange import export_set

    manifest = export_set(source, form.value, output, overwrite=overwrite)
    counts = manifest["counts"]
    typer.echo(
        f"{counts['pictures']} pictures, {counts['synthetic']} of them synthetic, {counts['masks']} with a mask, "
        f"in {output}"
    )
    if manifest["left_out"]:
        typer.echo(f"{manifest['left_out']} pictures without a mask were left out: {form.value} has no place for them")
    return manifest
