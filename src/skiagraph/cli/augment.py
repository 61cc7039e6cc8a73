"""skiagraph augment: training images with masks to more of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Address, Device, Dtype, Executor, ExecutorKind, Model, Output, Overwrite, Workers
from skiagraph.models.registry import DEFAULT_MODEL


def run(
    dataset: Annotated[str, typer.Argument(help="Folder with metadata.csv, or a known data set's name.")],
    output: Output,
    prompts: Annotated[Path, typer.Option(help="CSV with a column 'prompt' and, if wanted, 'negative'.")],
    ratio: Annotated[float, typer.Option(min=0.001, help="Synthetic images for each real one.")] = 0.2,
    model: Model = DEFAULT_MODEL,
    judge: Annotated[
        str | None,
        typer.Option(help="Segmenter that must find the mask again. [default: lung-segmenter, none for colour]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of images and prompts, and of the first image.")] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(min=0, help="Guidance scale; 1 switches it off.")] = 3.0,
    strength: Annotated[float, typer.Option(min=0.01, max=1, help="How far the inside may move; 1 forgets it.")] = 0.6,
    resamples: Annotated[int, typer.Option(min=1, help="Times each step is taken, as in RePaint.")] = 1,
    keep_detail: Annotated[
        float | None,
        typer.Option(min=0, help="What is finer than so many pixels stays the image's. [default: the model's own]"),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Networks' precision.")] = Dtype.float32,
    device: Device = "auto",
    workers: Workers = 1,
    executor: Executor = ExecutorKind.processes,
    address: Address = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Paint inside the masks of DATASET's training images: a data set of images with the same masks in OUTPUT.

    Example: skiagraph augment out/pairs --prompts examples/inpaint-cxr.csv -o out/augmented
    """
    from skiagraph.engine.augment import AugmentConfig, augment, read_prompts
    from skiagraph.engine.executor import make_executor
    from skiagraph.pipelines.inpaint import InpaintSettings

    config = AugmentConfig(
        dataset=dataset, prompts=read_prompts(prompts), ratio=ratio, model=model, judge=judge, seed=seed,
        settings=InpaintSettings(
            steps=steps, guidance=guidance, strength=strength, resamples=resamples, keep_detail=keep_detail
        ),
        dtype=dtype.value, device=device,
    )  # fmt: skip
    manifest = augment(config, output, overwrite=overwrite, executor=make_executor(executor.value, workers, address))
    rows = manifest["images"]
    kept = sum(row["dropped"] is None for row in rows)
    typer.echo(
        f"{kept} of {manifest['wanted']} images wanted, from {len(rows)} painted, in {output}; "
        "manifest.json says why the others were dropped"
    )
    return manifest
