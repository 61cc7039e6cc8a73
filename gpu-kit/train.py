"""Train the kit's recipe for a number of minutes; called by `run`, which sets the machine up.

The first call times some steps and from them sets how many fit; every call leaves the averaged weights in half
precision as parts of a limited size in the output folder: `python gpu-kit/join.py PARTS MODEL` makes the model of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from statistics import median

import torch

from parts import split
from skiagraph.devices import usable_device
from skiagraph.training.loop import train
from skiagraph.training.recipe import TextToImageRecipe, load_recipe
from skiagraph.training.tasks import make_task

RESERVE = 45
"""Seconds kept for the last checkpoint, the export and the parts."""

DECAY = 0.3
"""Share of all steps over which a finished model's rate falls."""


def main() -> None:
    """Time, train, export, split."""
    args = _arguments()
    began = time.monotonic()
    torch.set_float32_matmul_precision("high")
    work, run = args.work, args.work / "run"
    recipe = packed_recipe(work, args)
    task = make_task(recipe, run, usable_device("auto"))
    print(f"set up in {time.monotonic() - began:.0f} s", flush=True)
    done = _steps_done(run)
    train(with_steps(recipe, done + args.probe, validate=False), task, run)
    seconds = _seconds_per_step(run)
    left = 60 * args.minutes - (time.monotonic() - began) - RESERVE
    steps = done + args.probe + max(1, int(left / seconds))
    print(f"{seconds:.3f} s a step: {steps} steps in all", flush=True)
    decay = int(DECAY * steps) if args.finish else 0
    model = train(with_steps(recipe, steps, decay=decay), task, run)
    paths = split(model, args.output, "model", args.shard_mb, compress=False)
    shutil.copy(run / "log.jsonl", args.output / "log.jsonl")
    for path in paths[args.first + args.count :] + paths[: args.first]:
        path.unlink()
    print(f"{len(paths)} parts of the model, in {time.monotonic() - began:.0f} s", flush=True)


def packed_recipe(work: Path, args: argparse.Namespace) -> TextToImageRecipe:
    """The kit's recipe with the places where things lie on this machine, and a batch of another size if asked for."""
    recipe = load_recipe(work / "kit/recipe.yaml")
    networks = work / "kit/networks"
    start = str(networks / "start_from") if recipe.start_from else None
    optim = {"tensorboard": False, "log_every": min(20, args.probe // 4)}
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"root": str(work / "data")}),
            "autoencoder": str(networks / "autoencoder"),
            "perceptual_decoder": None,
            "start_from": start,
            "optim": recipe.optim.model_copy(update=optim | ({"batch_size": args.batch} if args.batch else {})),
        }
    )


def with_steps(recipe: TextToImageRecipe, steps: int, *, decay: int = 0, validate: bool = True) -> TextToImageRecipe:
    """The recipe with an end, and a rate that falls over the last `decay` steps."""
    update = {"steps": steps, "schedule": "linear", "decay_steps": decay}
    if not validate:
        update["validate_every"] = 0
    return recipe.model_copy(update={"optim": recipe.optim.model_copy(update=update)})


def _steps_done(run: Path) -> int:
    state = run / "checkpoint/state.json"
    return json.loads(state.read_text())["step"] if state.is_file() else 0


def _seconds_per_step(run: Path) -> float:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return median([r["seconds_per_step"] for r in rows if "seconds_per_step" in r][-3:])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="of this call, set-up and export included")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the parts")
    parser.add_argument("--finish", action="store_true", help="let the rate fall to zero by the end")
    parser.add_argument("--probe", type=int, default=200, help="steps that are timed first")
    parser.add_argument("--batch", type=int, help="batch size instead of the recipe's")
    parser.add_argument("--shard-mb", type=float, default=15, help="most million bytes in a part")
    parser.add_argument("--first", type=int, default=0, help="first part that is left in the output folder")
    parser.add_argument("--count", type=int, default=1000, help="how many parts are left there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
