"""The training job: a recipe in, a model out; what it was made of stands in the manifest."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from skiagraph.data.datasets import Record
from skiagraph.devices import AUTO, usable_device
from skiagraph.engine.job import open_run
from skiagraph.errors import ModelError
from skiagraph.files import sha256, weight_hashes
from skiagraph.models.registry import model_folder
from skiagraph.progress import Listener, progress
from skiagraph.training.images import records_of
from skiagraph.training.loop import train
from skiagraph.training.recipe import Recipe
from skiagraph.training.tasks import make_task

MODEL_FIELDS = ("autoencoder", "generator", "model", "start_from", "segmenter", "path")
"""Fields of recipes that name models which training depends on."""

WRITTEN = ("checkpoint", "model", "cache", "events", "log.jsonl")
"""What training writes in its folder."""


def train_recipe(
    recipe: Recipe, output: Path, *, overwrite: bool = False, device: str = AUTO, listen: Listener = progress
) -> Path:
    """Train what a recipe describes in `output`, going on from its checkpoint where there is one.

    Args:
        recipe: from `load_recipe`. Of the same run, what does not change training may differ: steps and reports of it.
        output: folder of the checkpoint, the log, `model` and `manifest.json`, which has the hashes of the training
            images, by dataset, and of the models that the recipe names.
        overwrite: remove what another run left in `output`.
        device: name of a torch device, or "auto".
        listen: hears of progress.

    Returns:
        The model's folder.

    Raises:
        RecipeError: the checkpoint belongs to another recipe, or cannot be read.
        DataError: no training images.
        ModelError: a model that the recipe names and that is not there.
        SkiagraphError: `output` holds another run.
    """
    # The default is left out: runs from before there were domains go on.
    config = recipe.model_dump(mode="json", exclude={"domain"} if recipe.domain == "chest" else None)
    data = data_hashes(records_of(recipe, "train"))
    weights = {name: weight_hashes(model_folder(name)) for name in sorted(set(_models(config)))}
    with open_run(
        output, "train", config, weights=weights, data=data, overwrite=overwrite,
        extend=("optim", "perceptual_decoder"), listen=listen,
    ) as run:  # fmt: skip
        run.claim(*WRITTEN)
        chosen = usable_device(device)
        PartialState(cpu=chosen.type == "cpu")  # every process of several takes its own accelerator from it
        chosen = chosen if chosen.type == "cpu" else PartialState().device
        model = train(recipe, make_task(recipe, output, chosen), output, device=chosen.type, listen=listen)
        run.finish(model=weight_hashes(model))
    return model


def data_hashes(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Number of images of each dataset, and one sha256 over their names, splits and contents."""
    digests = defaultdict(hashlib.sha256)
    counts: dict[str, int] = defaultdict(int)
    for record in sorted(records, key=lambda r: r.key):
        counts[record.dataset] += 1
        digests[record.dataset].update(f"{record.key} {record.split} {sha256(record.path)}\n".encode())
    return {name: {"images": counts[name], "sha256": digests[name].hexdigest()} for name in sorted(counts)}


def _models(config: dict[str, Any]) -> Iterator[str]:
    """Models that a recipe names by a shipped name, folder or Hub id; words such as "thresholds" are none.

    Raises:
        ModelError: a folder or Hub id that is not here.
    """
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _models(value)
        elif name in MODEL_FIELDS and isinstance(value, str):
            try:
                model_folder(value)
            except ModelError:
                # Text encoders ("path") have layouts of their own, and are checked where they are loaded.
                if name != "path" and "/" in value and not Path(value).is_dir():
                    raise
                continue
            yield value
