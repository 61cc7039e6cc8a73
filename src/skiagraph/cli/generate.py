"""skiagraph generate: reports to synthetic X-rays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Address, Device, Dtype, Executor, ExecutorKind, Model, Output, Overwrite, Workers
from skiagraph.models.registry import DEFAULT_MODEL


def run(
    output: Output,
    report: Annotated[list[str] | None, typer.Option("--report", help="A report; may be repeated.")] = None,
    reports: Annotated[
        Path | None, typer.Option(help="CSV with a column 'report', or text, one report a line.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Images per report.")] = 1,
    best_of: Annotated[
        int, typer.Option(min=1, help="Draws for each image, of which the one is kept that fits best, by a classifier.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first draw; each next draw has the next seed.")] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(min=0, help="Guidance scale; 1 switches it off.")] = 2.0,
    negative: Annotated[str, typer.Option(help="What to lead away from.")] = "",
    scheduler: Annotated[
        str | None, typer.Option(help="Any diffusers scheduler, such as DDIM or UniPCMultistep.")
    ] = None,
    enlarge: Annotated[
        bool, typer.Option("--enlarge", help="Draw twice the side: 512 px with the shipped model, of adults.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time; does not change them.")] = 8,
    dtype: Annotated[
        Dtype, typer.Option(help="Networks' precision; bfloat16 is faster where the machine has it.")
    ] = Dtype.float32,
    device: Device = "auto",
    workers: Workers = 1,
    executor: Executor = ExecutorKind.processes,
    address: Address = None,
    overwrite: Overwrite = False,
    extend: Annotated[bool, typer.Option("--extend", help="Go on from a run that had other reports.")] = False,
) -> dict[str, Any]:
    """Generate chest X-rays from reports: PNGs, a contact sheet and a manifest in OUTPUT.

    Example: skiagraph generate --report "Large right pleural effusion. PA view of an adult." -n 4 -o out
    """
    from skiagraph.data.tables import read_reports
    from skiagraph.engine.contact_sheet import SHEET_NAME
    from skiagraph.engine.executor import make_executor
    from skiagraph.engine.generate import GenerateConfig, generate

    texts = tuple(report or ()) + (read_reports(reports) if reports else ())
    config = GenerateConfig(
        reports=texts, model=model, count=count, best_of=best_of, seed=seed, steps=steps, guidance=guidance,
        negative=negative, scheduler=scheduler, enlarge=enlarge, dtype=dtype.value, batch_size=batch_size,
        device=device,
    )  # fmt: skip
    manifest = generate(
        config, output, overwrite=overwrite, extend=extend, executor=make_executor(executor.value, workers, address)
    )
    for row in manifest["images"]:
        if row["prompt_truncated"]:
            typer.echo(f"warning: {row['file']}: the prompt was too long and was cut off", err=True)
    dropped = {row["report"]: row["left_out"] for row in manifest["images"] if row["left_out"]}
    for text, parts in dropped.items():
        typer.echo(f"warning: of {text[:60]!r} this was not drawn: {'; '.join(parts)}", err=True)
    typer.echo(f"{len(manifest['images'])} synthetic X-rays in {output}, all at a glance in {output / SHEET_NAME}")
    return manifest
