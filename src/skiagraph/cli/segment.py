"""skiagraph segment: pictures to masks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Address, Device, Dtype, Executor, ExecutorKind, Model, Output, Overwrite, Workers
from skiagraph.models.registry import DEFAULT_SEGMENTER


class Form(StrEnum):
    """What masks are written as."""

    png = "png"
    dicom_seg = "dicom-seg"


def run(
    paths: Annotated[list[Path], typer.Argument(help="Pictures (PNG, JPEG, DICOM) or folders of them.")],
    output: Output,
    model: Model = DEFAULT_SEGMENTER,
    form: Annotated[
        Form, typer.Option("--format", help="dicom-seg is for DICOM inputs and needs highdicom.")
    ] = Form.png,
    check: Annotated[
        bool, typer.Option(help="Ask about five views of each picture: better masks, doubtful ones flagged, more time.")
    ] = True,
    uncertainty: Annotated[
        int, typer.Option(min=0, help="Draws of noise whose disagreement is written too; latent segmenters only.")
    ] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps; latent segmenters only.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise of the first draw.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time; does not change them.")] = 8,
    dtype: Annotated[Dtype, typer.Option(help="Networks' precision.")] = Dtype.float32,
    device: Device = "auto",
    workers: Workers = 1,
    executor: Executor = ExecutorKind.processes,
    address: Address = None,
    overwrite: Overwrite = False,
    extend: Annotated[bool, typer.Option("--extend", help="Go on from a run that had other inputs.")] = False,
) -> dict[str, Any]:
    """Segment PATHS: masks at each picture's own size, a table of areas, a contact sheet and a manifest in OUTPUT.

    One class is 255 in a PNG, several are 1, 2, ... Files that cannot be read are listed and skipped, and the exit code
    is then 1.

    Example: skiagraph segment hospital/ -o masks
    """
    from skiagraph.engine.executor import make_executor
    from skiagraph.engine.segment import SegmentConfig, segment

    config = SegmentConfig(
        inputs=tuple(map(str, paths)), model=model, form=form.value, check=check, uncertainty=uncertainty,
        steps=steps, seed=seed, dtype=dtype.value, batch_size=batch_size, device=device,
    )  # fmt: skip
    manifest = segment(
        config, output, overwrite=overwrite, extend=extend, executor=make_executor(executor.value, workers, address)
    )
    failed = manifest["failed"]
    for row in failed:
        typer.echo(f"skiagraph: skipped: {row['error']}", err=True)
    passed = len(manifest["passed_over"])
    if passed:
        typer.echo(
            f"skiagraph: {passed} file(s) are no frontal picture and were passed over; manifest.json says why", err=True
        )
    flagged = sum(bool(row.get("flag")) for row in manifest["images"])
    if flagged:
        typer.echo(f"skiagraph: {flagged} mask(s) are flagged; look at them, masks.csv says why", err=True)
    typer.echo(f"{len(manifest['images'])} masks in {output / 'masks'}; {len(failed)} of the inputs skipped")
    return manifest
