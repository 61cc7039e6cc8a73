"""How many synthetic images help a segmenter, and from where on do they harm? The curve of SynDiff (arXiv 2507.15361).

    python benchmarks/augmentation_curve.py --data DIR --prompts examples/inpaint-cxr.csv -o out/augmentation

Draws real training cases, paints inside their masks (`skiagraph augment`), then trains segmenters on them plus
0, 20, 50, 100, 150 and 200 synthetic ones, the first so many that passed the gate, with the same number of steps each,
and tests them on patients never seen. Beside each row stands how far the mixed training set lies from held-out real
images: as many of it as there are real cases, drawn at random, so that n is equal throughout.

Paintings and trained segmenters are kept in the output folder; the same command goes on where it stopped.
Intervals are bootstraps over test patients of the mean over seeds; `gain` is the paired difference to the first row.
Nothing is chosen on the test split: the number of steps is fixed and no weights are picked by score.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from held_out import POLYPS, REAL, test_sets
from machine import machine
from skiagraph.data.datasets import Record, load_records, masked, read_folder, write_folder
from skiagraph.engine.augment import AugmentConfig, augment, masked_records, read_prompts
from skiagraph.errors import DataError
from skiagraph.evaluation import bootstrap, dice, frechet_distance, iou, kernel_distance
from skiagraph.evaluation.imagenet import EXTRACTOR, ImageNetExtractor
from skiagraph.files import atomic_path, write_json
from skiagraph.models.registry import DEFAULT_MODEL, load_component
from skiagraph.pipelines.inpaint import InpaintSettings
from skiagraph.training.loop import train
from skiagraph.training.recipe import DataConfig, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.segmenter import Pairs, SegmenterTask, label_maps, load_pairs

SIDE = 256
"""Side in pixels at which features are taken."""


class Cases(NamedTuple):
    """Records of a test set, their images and masks, and their images' features."""

    records: list[Record]
    pairs: Pairs
    features: np.ndarray


def main() -> None:
    """Paint and train what is missing, test all of it, print the table and write results.json and results.md."""
    args = _arguments()
    _check_settings(args)
    real = _drawn(args)
    synthetic = _painted(args, len(real))
    tests = {name: _cases(dataset, args) for name, dataset in test_sets(args.dataset).items()}
    rows: list[dict] = []
    first: dict[str, dict[str, np.ndarray]] = {}
    for count in args.synthetic:
        records = real + synthetic[:count]
        if len(records) < len(real) + count:
            print(f"only {len(synthetic)} synthetic images passed the gate; the row of {count} is left out")
            continue
        models = [_segmenter(args, records, count, seed) for seed in range(args.seeds)]
        features = _features(random.Random(args.draw).sample(records, len(real)), args)
        for name, cases in tests.items():
            values = _values(models, cases)
            about = {"real": len(real), "synthetic": count, "tested_on": name, "n": len(cases.records)}
            about |= _scores(values, first.setdefault(name, values))
            rows.append(about | _shift(cases.features, features))
            print(_line(rows[-1]), flush=True)
    _write(args, rows)


def _cases(dataset: str, args: argparse.Namespace) -> Cases:
    records = masked(load_records([dataset], args.data, splits=["test"]))[: args.test]
    if not records:
        raise DataError(f"{dataset} has no test image with a mask")
    return Cases(records, load_pairs(records, _recipe(args, 0, args.size)), _features(records, args))


def _drawn(args: argparse.Namespace) -> list[Record]:
    """The real cases, as a data set of their own that names files where they lie."""
    folder = args.output / "real"
    if not (folder / "metadata.csv").is_file():
        pool = masked(load_records([args.dataset], args.data, splits=["train"]))
        chosen = random.Random(args.draw).sample(pool, min(args.real, len(pool)))
        write_folder(
            folder,
            (
                {"file": r.path.resolve(), "patient": r.patient, "split": "train", "mask": r.mask.resolve()}
                for r in chosen
            ),
        )
    return masked_records(str(folder))


def _painted(args: argparse.Namespace, real: int) -> list[Record]:
    """The synthetic cases that passed the gate, as many as the longest row needs."""
    if not max(args.synthetic):
        return []
    config = AugmentConfig(
        dataset=str(args.output / "real"), prompts=read_prompts(args.prompts), ratio=max(args.synthetic) / real,
        model=args.model, judge=args.judge, seed=args.draw, settings=InpaintSettings(steps=args.painting_steps),
        dtype=args.dtype,
    )  # fmt: skip
    augment(config, args.output / "augmented")
    return read_folder(args.output / "augmented")


def _segmenter(args: argparse.Namespace, records: list[Record], count: int, seed: int) -> torch.nn.Module:
    """A segmenter of these records, trained unless it is there already."""
    folder = args.output / "cells" / f"{count}-{seed}"
    if not (folder / "model").is_dir():
        recipe = _recipe(args, seed, args.size)
        pairs = load_pairs(records, recipe)
        torch.manual_seed(seed)
        train(recipe, SegmenterTask(recipe, pairs, pairs), folder)
    return load_component(folder / "model").eval()


def _recipe(args: argparse.Namespace, seed: int, side: int) -> SegmenterRecipe:
    optim = OptimConfig(
        steps=args.steps, batch_size=16, learning_rate=2e-3, weight_decay=0.01, ema_decay=0.99, precision="float32",
        validate_every=0, warmup_steps=50, tensorboard=False,
    )  # fmt: skip
    return SegmenterRecipe(
        task="segmenter", seed=seed, data=DataConfig(datasets=[], image_size=side), optim=optim, classes=["object"],
        in_channels=3 if args.dataset in POLYPS else 1,
    )  # fmt: skip


def _values(models: list[torch.nn.Module], cases: Cases) -> dict[str, np.ndarray]:
    """Dice and IoU (seeds, patients), a mean over each patient's images."""
    images, masks = cases.pairs
    true = masks[:, 0].numpy() > 0
    _, patient = np.unique([r.patient for r in cases.records], return_inverse=True)
    values = {"dice": [], "iou": []}
    for model in models:
        found = label_maps(model, images).numpy() > 0
        for name, metric in (("dice", dice), ("iou", iou)):
            per_image = metric(found, true).details["values"]
            values[name].append(np.bincount(patient, per_image) / np.bincount(patient))
    return {name: np.stack(rows) for name, rows in values.items()}


def _scores(values: dict[str, np.ndarray], first: dict[str, np.ndarray]) -> dict[str, float | list[float]]:
    """Means over seeds and patients with their intervals, and the gain over the first row."""
    row: dict[str, float | list[float]] = {}
    for name, by_seed in values.items():
        per_patient, gain = by_seed.mean(axis=0), (by_seed - first[name]).mean(axis=0)
        row[name], row[f"{name}_interval"] = float(per_patient.mean()), list(bootstrap(np.mean, per_patient))
        row[f"{name}_by_seed"] = by_seed.mean(axis=1).tolist()
        row[f"{name}_gain"], row[f"{name}_gain_interval"] = float(gain.mean()), list(bootstrap(np.mean, gain))
    return row


def _shift(held_out: np.ndarray, trained_on: np.ndarray) -> dict[str, dict]:
    """Distances of features of the mixed training set to those of held-out real images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # n below the number of features; the kernel distance stands beside it
        frechet = frechet_distance(held_out, trained_on, extractor=EXTRACTOR)
    kernel = kernel_distance(held_out, trained_on, extractor=EXTRACTOR)
    plain = {k: {f: v for f, v in m.to_dict().items() if f != "details"} for k, m in (("f", frechet), ("k", kernel))}
    return {"frechet": plain["f"], "kernel": plain["k"]}


def _features(records: list[Record], args: argparse.Namespace) -> np.ndarray:
    images = load_pairs(records, _recipe(args, 0, SIDE))[0].numpy().astype(np.float32) / 255
    return ImageNetExtractor().features(images if images.shape[1] == 3 else images[:, 0])


def _line(row: dict) -> str:
    """A row of the Markdown table."""

    def score(name: str, form: str = ".4f") -> str:
        low, high = row[f"{name}_interval"]
        return f"{row[name]:{form}} ({low:{form}} to {high:{form}})"

    cells = [f"{row['real']} + {row['synthetic']}", row["tested_on"], str(row["n"]), score("dice")]
    cells += [score("dice_gain", "+.4f") if row["synthetic"] else "", score("iou")]
    return f"| {' | '.join(cells)} | {row['frechet']['value']:.3f} | {row['kernel']['value']:.4f} |"


def _write(args: argparse.Namespace, rows: list[dict]) -> None:
    settings = {k: str(v) for k, v in vars(args).items()}
    write_json(args.output / "results.json", {"settings": settings, "machine": machine(), "rows": rows})
    distances = f"Frechet distance [{EXTRACTOR}] | kernel distance"
    table = [
        f"{args.seeds} seeds of {args.steps} steps; {machine()['processor']}.",
        "",
        f"| real + synthetic | tested on | n | Dice | gain | IoU | {distances} |",
        "| --- " * 8 + "|",
        *map(_line, rows),
    ]
    with atomic_path(args.output / "results.md") as temporary:
        temporary.write_text("\n".join(table) + "\n", encoding="utf-8")


def _check_settings(args: argparse.Namespace) -> None:
    """Kept cells are of one run only: refuse a folder that other settings have filled."""
    path = args.output / "settings.json"
    kept = {k: str(v) for k, v in vars(args).items() if k not in ("synthetic", "seeds", "output", "data")}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != kept:
        raise DataError(f"{args.output} holds another run (settings.json differs); choose another --output")
    write_json(path, kept)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("--dataset", default=REAL)
    parser.add_argument("--prompts", type=Path, default=Path("examples/inpaint-cxr.csv"))
    parser.add_argument("-o", "--output", type=Path, default=Path("out/augmentation"))
    parser.add_argument("--model", default=DEFAULT_MODEL, help="paints; name or folder")
    parser.add_argument("--judge", help="segmenter of the gate; see `skiagraph augment`")
    parser.add_argument("--real", type=int, default=488, help="real training cases, as in the paper")
    parser.add_argument("--synthetic", type=int, nargs="+", default=[0, 20, 50, 100, 150, 200])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--painting-steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=128, help="side at which segmenters are trained and tested")
    parser.add_argument("--test", type=int, help="use only the first so many test images; all by default")
    parser.add_argument("--draw", type=int, default=0, help="seed of which real cases are drawn, and of painting")
    parser.add_argument("--dtype", default="bfloat16", help="the painter's precision")
    return parser.parse_args()


if __name__ == "__main__":
    main()
