"""skiagraph edit: a real X-ray into a "what if"."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Address, Device, Dtype, Executor, ExecutorKind, Model, Output, Overwrite, Workers
from skiagraph.models.registry import DEFAULT_MODEL


def run(
    image: Annotated[
        Path,
        typer.Argument(help="Frontal radiograph (PNG, JPEG, DICOM), a folder of them, or a CSV with image, to, from."),
    ],
    output: Output,
    to: Annotated[str, typer.Option(help="What the picture is to show, such as 'left lower lobe consolidation'.")] = "",
    source: Annotated[str, typer.Option("--from", help="What it shows now; needed to take a finding away.")] = "",
    strength: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            help="How far the picture may move. [default: 0.6, or 0.8 where findings only go]",
            show_default=False,
        ),
    ] = None,
    roi: Annotated[
        Path | None, typer.Option(help="Mask picture or DICOM SEG of where, instead of the place the words name.")
    ] = None,
    organs: Annotated[
        str,
        typer.Option(help="Who finds the organs: shipped, torchxrayvision, cxas, a segmenter, or a file of masks."),
    ] = "shipped",
    progression: Annotated[int, typer.Option(min=1, help="Pictures from little to full strength.")] = 1,
    best_of: Annotated[
        int, typer.Option(min=1, help="Edits to make of each, of which the one is kept that a classifier sees most.")
    ] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Add findings that the model's card says it does not draw.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale; 1 switches it off.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise, where there is any.")] = 0,
    model: Model = DEFAULT_MODEL,
    dtype: Annotated[Dtype, typer.Option(help="Networks' precision.")] = Dtype.float32,
    device: Device = "auto",
    workers: Workers = 1,
    executor: Executor = ExecutorKind.processes,
    address: Address = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Edit IMAGE inside one region, the rest of it untouched: before, after, difference and manifest in OUTPUT.

    Of several radiographs, those that cannot be edited are listed and skipped, and the exit code is then 1.

    Example: skiagraph edit x.png --from "PA view of an adult." --to "Left lower lobe consolidation." -o out/edit
    """
    from skiagraph.engine.edit import EditConfig, edit
    from skiagraph.engine.executor import make_executor
    from skiagraph.engine.reading import verdict
    from skiagraph.pipelines.counterfactual import EditSettings

    given = {
        "strength": strength, "clearing": strength, "steps": steps, "guidance": guidance, "clearing_guidance": guidance,
    }  # fmt: skip
    settings = EditSettings(**{name: value for name, value in given.items() if value is not None})
    config = EditConfig(
        image=str(image), to=to, source=source, progression=progression, roi=None if roi is None else str(roi),
        organs=organs, best_of=best_of, force=force, model=model, seed=seed, settings=settings, dtype=dtype.value,
        device=device,
    )  # fmt: skip
    manifest = edit(config, output, overwrite=overwrite, executor=make_executor(executor.value, workers, address))
    edits, failed = manifest.get("edits", [manifest]), manifest.get("failed", [])
    frames = [frame for row in edits for frame in row["frames"]]
    outside = max((frame["largest_change_outside"] for frame in frames), default=0.0)
    for row in failed:
        typer.echo(f"skiagraph: skipped: {row['error']}", err=True)
    for row in edits:
        for said in row["frames"][-1]["read"]:
            typer.echo(f"{row.get('folder', '')} {verdict(said)}".strip())
    typer.echo(f"{len(frames)} edited picture(s) in {output}; largest change outside the region: {outside:g}")
    return manifest
