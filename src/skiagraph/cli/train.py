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
    from skiagraph.training.recipe import load_recipe

    model = train_recipe(load_recipe(recipe), output, overwrite=overwrite, device=device)
    typer.echo(f"trained model in {model}")
