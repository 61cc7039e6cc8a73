"""skiagraph train: a recipe to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skiagraph.cli.options import Output


def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML); see the folder recipes.")],
    output: Output,
) -> None:
    """Train what RECIPE describes into OUTPUT; run the same command again to continue after any stop."""
    from collections import Counter

    from skiagraph.engine.manifest import FILE_NAME, new_manifest, save_manifest
    from skiagraph.training.images import records_of
    from skiagraph.training.loop import train
    from skiagraph.training.recipe import load_recipe
    from skiagraph.training.tasks import make_task

    loaded = load_recipe(recipe)
    images = dict(Counter(r.dataset for r in records_of(loaded.data, "train")))
    manifest = new_manifest("train", loaded.model_dump(mode="json"), images=images)
    if not (output / FILE_NAME).exists():
        save_manifest(output, manifest)
    task = make_task(loaded, output)
    model = train(loaded, task, output)
    save_manifest(output, manifest)
    typer.echo(f"trained model in {model}")
