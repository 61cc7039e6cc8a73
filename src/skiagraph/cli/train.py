"""skiagraph train: a recipe to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skiagraph.cli.options import Device, Output, Overwrite


def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML); see the folder recipes.")],
    output: Output,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Train what RECIPE describes into OUTPUT; run the same command again to continue after any stop."""
    from skiagraph.engine.train import train_recipe
    from skiagraph.training.loop import Interrupted
    from skiagraph.training.recipe import load_recipe

    try:
        model = train_recipe(load_recipe(recipe), output, overwrite=overwrite, device=device)
    except Interrupted as stop:
        typer.echo(f"skiagraph: {stop}", err=True)
        raise typer.Exit(130) from stop
    typer.echo(f"trained model in {model}")
