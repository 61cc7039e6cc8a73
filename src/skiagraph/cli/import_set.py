"""skiagraph import: a data set in a foreign layout to a folder that every verb reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.export_set import Format
from skiagraph.cli.options import Output, Overwrite

SHOWN = 8
"""Findings without a label that are named on the screen."""


PUBLISHED = (
    "mimic-cxr", "chexpert", "nih-chestxray14", "padchest", "vindr-cxr", "jsrt", "montgomery", "shenzhen",
)  # fmt: skip
"""Layouts that are read and not written."""

LAYOUTS = (*(form.value for form in Format), *PUBLISHED)
"""Layouts that are read; other packages may bring more."""


def run(
    layout: Annotated[
        str,
        typer.Argument(
            help=f"How the data set is laid out: {', '.join(LAYOUTS)}, or what another package brings.",
            autocompletion=lambda: list(LAYOUTS),
        ),
    ],
    source: Annotated[Path, typer.Argument(help="Its folder, or its file where it is a table or COCO's JSON.")],
    output: Output,
    shares: Annotated[
        str, typer.Option(help="Shares of patients for train, val and test, where no split is published.")
    ] = "70,10,20",
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    redraw: Annotated[bool, typer.Option("--redraw", help="Draw all patients anew, whatever is published.")] = False,
    column: Annotated[
        list[str] | None, typer.Option(help="OURS=THEIRS, a column of the layout csv, such as file=path; repeatable.")
    ] = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Take a data set in: pictures are linked, labels, splits and masks become a folder with metadata.csv.

    Example: skiagraph import chexpert CheXpert-v1.0 -o data/chexpert
    """
    from skiagraph.engine.exchange import import_set
    from skiagraph.errors import DataError

    try:
        parts = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise DataError(f"shares {shares!r} must be three numbers, such as 70,10,20") from error
    pairs = [text.partition("=") for text in column or ()]
    if any(not theirs for _, _, theirs in pairs):
        raise DataError("--column wants OURS=THEIRS, such as --column file=path")
    manifest = import_set(
        layout, source, output, shares=parts, seed=seed, redraw=redraw,
        columns={ours: theirs for ours, _, theirs in pairs}, overwrite=overwrite,
    )  # fmt: skip
    counts, splits = manifest["counts"], manifest["splits"]
    typer.echo(
        f"{counts['pictures']} pictures of {counts['patients']} patients, {counts['masks']} with a mask, in {output}: "
        + ", ".join(f"{splits.get(name, 0)} {name}" for name in ("train", "val", "test"))
    )
    _tell("not there, left out", {"pictures": manifest["missing"]})
    _tell("lateral, left out", {"pictures": manifest["lateral"]})
    _tell("findings without a label here, not used", manifest["unmapped"])
    _tell("findings in doubt, not taken as present", manifest["in_doubt"])
    return manifest


def _tell(what: str, counts: dict[str, int]) -> None:
    found = {name: count for name, count in counts.items() if count}
    named = ", ".join(f"{name} {count}" for name, count in list(found.items())[:SHOWN])
    if found:
        typer.echo(f"{what}: {named}{', ... (manifest.json has all)' if len(found) > SHOWN else ''}")
