"""skiagraph evaluate: synthetic pictures against real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Device, Dtype, Overwrite
from skiagraph.models.registry import DEFAULT_SEGMENTER


def run(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", file_okay=False, help="Folder or URL to write to.")
    ] = None,
    real: Annotated[
        str, typer.Option(help="Real pictures: a folder, or FOLDER:test of a data set with metadata.csv.")
    ] = "",
    synthetic: Annotated[
        str | None,
        typer.Option(help="Synthetic pictures: a folder, such as one that generate wrote, or a model that makes them."),
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="What the generator was trained on; copies of it are looked for.")
    ] = None,
    edits: Annotated[
        str | None,
        typer.Option(help="Edited pictures: a folder that edit wrote, or a CSV with before, after, come, go, region."),
    ] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            help="What pictures are compared by; may be repeated: a known name, or a vision model's folder or Hub id. "
            "[default: the classifier of findings, an ImageNet network and thumbnails]",
            show_default=False,
        ),
    ] = None,
    judge: Annotated[str, typer.Option(help="Classifier of findings, by name or folder.")] = "cxr-classifier",
    segmenter: Annotated[
        str, typer.Option(help="Finds masks again where both sets have them, by name or folder.")
    ] = DEFAULT_SEGMENTER,
    lpips: Annotated[
        Path | None, typer.Option(help="File of torchvision's AlexNet weights, for LPIPS of edits.")
    ] = None,
    make: Annotated[
        int | None, typer.Option(min=1, help="Pictures that a model makes. [default: as many as are real]")
    ] = None,
    utility: Annotated[
        bool, typer.Option("--utility", help="Train classifiers on synthetic pictures and on those of --train.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")] = 0,
    dtype: Annotated[Dtype, typer.Option(help="Precision of a model that makes pictures.")] = Dtype.float32,
    device: Device = "auto",
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Instead: two folders of earlier evaluations, side by side.")
    ] = None,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Measure synthetic pictures: fidelity, agreement with reports, masks, subgroups, copies, use, and edits.

    Writes OUTPUT/report.html, which holds everything, and results.json.

    Example: skiagraph evaluate --real data:test --train data:train --synthetic out/many -o out/report
    """
    from skiagraph.engine.evaluate import EXTRACTORS, PAGE, EvaluateConfig, evaluate
    from skiagraph.engine.evaluate import compare as compared
    from skiagraph.errors import EvaluationError

    if compare is not None:
        rows = compared(*compare)
        _print_comparison(rows, *compare)
        return {"results": rows}
    if not (real and output):
        raise EvaluationError("give --real, --output and --synthetic or --edits, or --compare with two folders")
    config = EvaluateConfig(
        real, synthetic, train, tuple(extractor or EXTRACTORS), judge, segmenter, seed, edits,
        str(lpips) if lpips else None, make, utility, dtype.value, device,
    )  # fmt: skip
    manifest = evaluate(config, output, overwrite=overwrite)
    for section in manifest["sections"]:
        _print_section(section)
    typer.echo(f"the whole report: {output / PAGE}")
    return manifest


def _print_section(section: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "value", "interval", "floor", "n", title=section["title"], title_justify="left")
    for row in section["results"]:
        floor = "" if row["floor"] is None else f"{row['floor']:.3f}"
        table.add_row(_name(row), f"{row['value']:.3f}", _interval(row), floor, str(row["n"]))
    Console().print(table)


def _print_comparison(rows: list[dict[str, Any]], first: Path, second: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", f"first: {first}", f"second: {second}", "better")
    for row in rows:
        sides = (f"{row[s]['value']:.3f} ({_interval(row[s])})" for s in ("first", "second"))
        table.add_row(_name(row), *sides, row["better"])
    Console().print(table)


def _name(row: dict[str, Any]) -> str:
    return f"{row['name']} ({row['extractor']})" if row["extractor"] else row["name"]


def _interval(row: dict[str, Any]) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] != row["high"] else ""
