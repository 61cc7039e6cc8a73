"""skiagraph study: does synthetic data help on these cases?"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Device, Dtype, Model, Overwrite
from skiagraph.models.registry import DEFAULT_MODEL


class Task(StrEnum):
    """What a study trains."""

    segment = "segment"
    classify = "classify"


def run(
    data: Annotated[
        str, typer.Argument(help="Your cases: a folder with metadata.csv and masks or labels, or a known data set.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", file_okay=False, help="Folder or URL to write to.")
    ] = None,
    task: Annotated[
        Task, typer.Option(help="What is trained: segmenters of masks, or classifiers of findings.")
    ] = Task.segment,
    real: Annotated[str, typer.Option(help="Numbers of real training cases, with commas.")] = "10,50,200",
    synthetic: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of synthetic cases; may be repeated. Without any, they are made."),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of another hospital's cases; may be repeated.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="Of the masks, or findings; may be repeated. [default: lung, or all findings]"),
    ] = None,
    make: Annotated[int, typer.Option(min=12, help="Images to make in each way; of pairs, a third is kept.")] = 300,
    way: Annotated[
        list[str] | None,
        typer.Option(
            help="How images are made: made (whole, of texts), painted (inside masks) or, to classify, edited; may be "
            "repeated. [default: all]",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="CSV with a column 'prompt'. [default: the training patients' reports or labels]"),
    ] = None,
    model: Model = DEFAULT_MODEL,
    dtype: Annotated[Dtype, typer.Option(help="Precision of the model that makes images.")] = Dtype.float32,
    share: Annotated[
        str, typer.Option(help="Shares of a batch that are synthetic, tried on validation; 0 puts all together.")
    ] = "0,0.25,0.5",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 3,
    steps: Annotated[int, typer.Option(min=10, help="Of each training.")] = 500,
    size: Annotated[int, typer.Option(min=32, help="Side in pixels that networks look at.")] = 128,
    only_plan: Annotated[bool, typer.Option("--plan", help="Say what would be trained and how long it takes.")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Train networks on real, synthetic and mixed cases, with controls, and say in sentences whether it helped.

    Patients are split as metadata.csv says; a case made from a real one trains only beside that one. Writes
    OUTPUT/report.html and results.json; the same command goes on.

    Example: skiagraph study my-data --real 10,50 --synthetic pairs=out/pairs --test elsewhere=other-data -o out/study
    """
    from skiagraph.engine.augment import read_prompts
    from skiagraph.engine.study import StudyConfig, plan, study
    from skiagraph.errors import DataError

    config = StudyConfig(
        data=data, task=task.value, classes=tuple(classes or ()), real=_numbers(real, int, "--real"),
        synthetic=_named(synthetic, "--synthetic"), tests=_named(test, "--test"), make=make,
        ways=tuple(way or ()), prompts=tuple(p.prompt for p in read_prompts(prompts)) if prompts else (), model=model,
        dtype=dtype.value, shares=_numbers(share, float, "--share"), seeds=seeds, steps=steps, size=size, device=device,
    )  # fmt: skip
    if only_plan:
        planned = plan(config)
        _print_plan(planned)
        return planned
    if output is None:
        raise DataError("give --output, a folder for the report, or --plan")
    manifest = study(config, output, overwrite=overwrite)
    for answer in manifest["answers"]:
        typer.echo(answer["sentence"])
    typer.echo(f"the whole report: {output / 'report.html'}")
    return manifest


def _print_plan(found: dict[str, Any]) -> None:
    typer.echo("\n".join(found["arms"]))
    for name, minutes in found["making"].items():
        typer.echo(f"{name}: images first, at most about {minutes:.0f} minutes here")
    typer.echo(f"{found['trainings']} trainings, about {found['minutes']:.0f} minutes here")


def _numbers(text: str, kind: type, option: str) -> tuple[Any, ...]:
    from skiagraph.errors import DataError

    try:
        found = tuple(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        raise DataError(f"{option} {text!r} must be numbers with commas, such as 10,50") from None
    if not all(number > 0 if kind is int else 0 <= number < 1 for number in found):
        raise DataError(f"{option} {text!r}: {'counts are above 0' if kind is int else 'shares lie from 0 to below 1'}")
    return found


def _named(given: list[str] | None, option: str) -> dict[str, str]:
    from skiagraph.errors import DataError

    pairs = [text.partition("=") for text in given or ()]
    for name, equals, folder in pairs:
        if not (name and equals and folder):
            raise DataError(f"{option} {name!r} must be NAME=FOLDER")
    return {name: folder for name, _, folder in pairs}
