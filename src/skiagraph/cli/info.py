"""skiagraph info: what a model is made of and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def run(
    model: Annotated[str, typer.Argument(help="Name of a shipped model, a model folder, or a Hub id.")] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", file_okay=False, help="Folder for info.json as well.")
    ] = None,
) -> dict[str, Any]:
    """What MODEL can do, and parameters, multiply-adds and FLOPs of every component; without MODEL, of the shipped one.

    Example: skiagraph info lung-segmenter
    """
    from rich.console import Console
    from rich.table import Table

    from skiagraph.engine.info import describe
    from skiagraph.files import write_json
    from skiagraph.models.registry import DEFAULT_MODEL

    info = describe(model or DEFAULT_MODEL)
    table = Table(title=f"{info['model']}: cost of one image ({info['convention']})")
    for heading in ("component", "class", "parameters", "G MACs", "GFLOPs"):
        table.add_column(heading, justify="left" if heading in ("component", "class") else "right")
    for row in info["components"]:
        table.add_row(
            row["name"],
            row["class"],
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e9:.3f}",
            f"{row['flops'] / 1e9:.3f}",
        )
    kind = f"{'colour' if info['colour'] else 'grey'} pictures of {info['size']} px"
    typer.echo(f"{info['class']}, {kind}, for: {', '.join(info['verbs']) or 'use in Python'}")
    Console().print(table)
    if output is not None:
        write_json(output / "info.json", info)
    return info
