"""skiagraph train: a recipe to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skiagraph.cli.options import Device, Output, Overwrite


def run(
    recipe: Annotated[
        Path, typer.Argument(help="Recipe file (YAML), or one that comes with skiagraph: recipes/sdseg.yaml.")
    ],
    output: Output,
    changes: Annotated[
        list[str] | None, typer.Argument(help="Fields with other values, such as optim.steps=20.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> dict[str, Any]:
    """Train what RECIPE describes into OUTPUT; run the same command again to continue after any stop.

    Example: skiagraph train recipes/segmenter-on-pairs.yaml optim.steps=500 -o runs/segmenter
    """
    from skiagraph.engine.train import train_recipe
    from skiagraph.training.recipe import load_recipe

    model = train_recipe(load_recipe(recipe, changes or ()), output, overwrite=overwrite, device=device)
    typer.echo(f"trained model in {model}")
    return {"model": str(model)}
