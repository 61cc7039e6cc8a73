"""skiagraph pairs: prompts to images with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Address, Device, Dtype, Executor, ExecutorKind, Model, Output, Overwrite, Workers
from skiagraph.models.registry import DEFAULT_MODEL


def run(
    output: Output,
    prompts: Annotated[Path, typer.Option(help="CSV with a column 'report', or text, one report or prompt a line.")],
    count: Annotated[int, typer.Option("-n", "--n", min=1, help="Images to sample, before any are dropped.")],
    classes: Annotated[
        list[str] | None, typer.Option(help="What to mask; may be repeated. [default: the domain's]")
    ] = None,
    model: Model = DEFAULT_MODEL,
    seed: Annotated[int, typer.Option(min=0, help="Of the prompts' choice and of the first image.")] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(min=0, help="Guidance scale; 1 switches it off.")] = 2.0,
    keep: Annotated[float, typer.Option(min=0.01, max=1, help="Share of pairs the filter keeps.")] = 0.3,
    own_networks: Annotated[
        bool | None,
        typer.Option(
            "--own-networks/--shipped-networks",
            help="Train AffinityNet and filter on this run's images. [default: from 100 images on]",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time; does not change them.")] = 8,
    dtype: Annotated[Dtype, typer.Option(help="Networks' precision.")] = Dtype.float32,
    device: Device = "auto",
    workers: Workers = 1,
    executor: Executor = ExecutorKind.processes,
    address: Address = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Make chest X-rays together with their masks, from what the words of the prompt attend to.

    Example: skiagraph pairs --prompts examples/prompts.csv -n 8 -o out/pairs
    """
    from skiagraph.data.tables import read_reports
    from skiagraph.domains.domain import model_domain
    from skiagraph.engine.executor import make_executor
    from skiagraph.engine.pairs import PairsConfig, make_pairs
    from skiagraph.models.registry import model_folder

    masked = tuple(classes or model_domain(model_folder(model)).classes)
    config = PairsConfig(
        prompts=read_reports(prompts), count=count, classes=masked, model=model, seed=seed,
        steps=steps, guidance=guidance, keep=keep, own_networks=own_networks, dtype=dtype.value,
        batch_size=batch_size, device=device,
    )  # fmt: skip
    manifest = make_pairs(config, output, overwrite=overwrite, executor=make_executor(executor.value, workers, address))
    rows = manifest["pairs"]
    kept = sum(row["dropped"] is None for row in rows)
    typer.echo(f"{kept} of {len(rows)} pairs kept in {output}; manifest.json says why the others were dropped")
    return manifest
