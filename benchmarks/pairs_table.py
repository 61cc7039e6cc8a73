"""Does a segmenter trained on synthetic pairs find real lungs? The table that arXiv 2503.07209 is about.

    skiagraph pairs --prompts examples/prompts.csv -n 500 --dtype bfloat16 -o out/pairs
    python benchmarks/pairs_table.py --data DIR --pairs out/pairs -o out/pairs-table

Segmenters of one size and one number of steps are trained on real pairs only, on synthetic ones only and on both, with
10, 50, 200 and all real cases and three seeds; `--architecture unetr` takes a transformer for MONAI's U-Net. Test sets:
Kermany test patients whose mask is surely theirs (children), and the adult CC BY collection, another hospital and age.
`--relabel` adds rows in which a segmenter of the few real cases, not attention, drew the masks of the synthetic images.
Each trained segmenter leaves a file in `cells/`, so that the same command goes on where it was stopped. 27 segmenters,
about 40 minutes on two free cores.

Values are means over seeds; intervals are bootstraps over test images. Mind that the shipped model was taught where
"right lung" and "left lung" are by a segmenter that had seen all drawn masks of the training patients: with few real
cases, synthetic pairs of that model bring along what those masks taught. `text-to-image-without-masks.yaml` trains a
model that has seen none.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from held_out import LUNGS, REAL
from machine import machine
from skiagraph.data.datasets import load_records, read_folder
from skiagraph.engine.manifest import open_manifest, save_manifest
from skiagraph.evaluation import bootstrap
from skiagraph.files import atomic_path, write_json
from skiagraph.models.registry import load_component
from skiagraph.progress import silent
from skiagraph.training.loop import train
from skiagraph.training.recipe import DataConfig, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.segmenter import Pairs, SegmenterTask, label_maps, load_pairs

LEARNING_RATES = {"unet": 2e-3, "unetr": 5e-4}
"""A transformer's is lower, as is usual."""

SCORES = {
    "dice": lambda both, predicted, true: 2 * both / np.maximum(predicted + true, 1),
    "iou": lambda both, predicted, true: both / np.maximum(predicted + true - both, 1),
}
"""Of pixel counts: of an image each, or pooled over images."""


def main() -> None:
    """Train and test what is missing, print the table and write results.json and table.md."""
    args = _arguments()
    recipe = segmenter_recipe(args, seed=0)
    tests = {name: load_pairs(load_records([key], args.data, splits=["test"]), recipe) for name, key in LUNGS.items()}
    rows, settings = [], {k: str(v) for k, v in vars(args).items() if k not in ("output", "seeds", "real", "relabel")}
    manifest = open_manifest(args.output, "pairs-table", settings)
    save_manifest(args.output, manifest)
    for name, pairs in _training_sets(args, recipe).items():
        cells = []
        for seed in track(range(args.seeds), name, transient=True):
            cell = args.output / "cells" / f"{name.replace(' ', '-')}-{seed}.npz"
            if not cell.is_file():
                _write(cell, pixel_counts(trained(pairs(seed), segmenter_recipe(args, seed)), tests))
            cells.append(np.load(cell))
        rows += [_row(name, test, np.stack([cell[test] for cell in cells])) for test in tests]
    table = _table(rows)
    print(table)
    (args.output / "table.md").write_text(table + "\n", encoding="utf-8")
    write_json(args.output / "results.json", {**settings, "pairs": str(args.pairs), "machine": machine(), "rows": rows})


def _training_sets(args: argparse.Namespace, recipe: SegmenterRecipe) -> dict[str, Callable[[int], Pairs]]:
    """Pairs by a row's name, each for a seed."""
    real = load_pairs(load_records([REAL], args.data, splits=["train"])[: args.limit], recipe)
    synthetic = load_pairs(read_folder(args.pairs), recipe)
    order = torch.randperm(len(real[0]), generator=torch.Generator().manual_seed(args.draw))
    sets = {f"synthetic only {len(synthetic[0])}": lambda seed: synthetic}
    for count in sorted({min(count or len(order), len(order)) for count in args.real}):
        drawn = tuple(part[order[:count]] for part in real)
        both = f"real {count} and synthetic {len(synthetic[0])}"
        sets[f"real only {count}"] = lambda seed, drawn=drawn: drawn
        sets[both] = lambda seed, drawn=drawn: _evenly(drawn, synthetic)
        if args.relabel:
            sets[f"{both} with masks by real only"] = lambda seed, drawn=drawn: _evenly(
                drawn, _relabelled(synthetic[0], trained(drawn, segmenter_recipe(args, seed)))
            )
    return sets


def _relabelled(images: Tensor, model: torch.nn.Module) -> Pairs:
    """Images with the masks that a segmenter finds in them."""
    return images, (label_maps(model, images) > 0).to(torch.uint8)[:, None]


def _evenly(first: Pairs, second: Pairs) -> Pairs:
    """Both, the smaller repeated so that a batch has about as many of each."""
    size = max(len(first[0]), len(second[0]))
    repeated = [[part[torch.arange(size) % len(part)] for part in pairs] for pairs in (first, second)]
    return tuple(torch.cat(parts) for parts in zip(*repeated, strict=True))


def segmenter_recipe(args: argparse.Namespace, seed: int) -> SegmenterRecipe:
    """How a cell's segmenter is trained, by `steps`, `size`, `architecture` and `data` of the arguments."""
    optim = OptimConfig(
        steps=args.steps, batch_size=16, learning_rate=LEARNING_RATES[args.architecture], weight_decay=0.01,
        ema_decay=0.99, precision="no", validate_every=0, warmup_steps=50, tensorboard=False,
    )  # fmt: skip
    data = DataConfig(datasets=[REAL], root=args.data, image_size=args.size)
    return SegmenterRecipe(
        task="segmenter", seed=seed, data=data, optim=optim, classes=["lung"], architecture=args.architecture
    )


def trained(pairs: Pairs, recipe: SegmenterRecipe) -> torch.nn.Module:
    """A segmenter after its last step on these pairs."""
    torch.manual_seed(recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        return load_component(train(recipe, SegmenterTask(recipe, pairs, pairs), folder, listen=silent)).float().eval()


def pixel_counts(model: torch.nn.Module, tests: dict[str, Pairs]) -> dict[str, np.ndarray]:
    """Pixels (3, n) of each test image in both masks, in the predicted and in the true one."""
    counts = {}
    for name, (images, masks) in tests.items():
        predicted = label_maps(model, images) > 0
        true = masks[:, 0] > 0
        counts[name] = torch.stack([m.sum(dim=(-1, -2)) for m in (predicted & true, predicted, true)]).numpy()
    return counts


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)


def _row(name: str, test: str, counts: np.ndarray) -> dict:
    """Scores of (seeds, 3, n) pixel counts, each with the interval over images."""
    row: dict = {"name": name, "test": test, "n": counts.shape[-1], "seeds": len(counts)}
    for score, of_counts in SCORES.items():
        per_image = of_counts(*counts.swapaxes(0, 1)).mean(axis=0)
        row[score] = [float(per_image.mean()), *bootstrap(np.mean, per_image)]

        def pooled(by_image: np.ndarray, of_counts=of_counts) -> float:
            return float(np.mean(of_counts(*by_image.sum(axis=0).T)))

        by_image = counts.transpose(2, 0, 1)
        row[f"{score} pooled"] = [pooled(by_image), *bootstrap(pooled, by_image)]
        row[f"{score} by seed"] = of_counts(*counts.swapaxes(0, 1)).mean(axis=-1).tolist()
    return row


def _table(rows: list[dict]) -> str:
    names = ("dice", "iou", "dice pooled", "iou pooled")
    lines = ["| trained on | tested on | n | Dice | IoU | Dice pooled | IoU pooled |", "|" + " --- |" * 7]
    for row in rows:
        cells = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in (row[name] for name in names)]
        lines.append(f"| {row['name']} | {row['test']} | {row['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("--pairs", type=Path, required=True, help="output of `skiagraph pairs --classes lung`")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/pairs-table"))
    parser.add_argument(
        "--real", type=int, nargs="+", default=[10, 50, 200, 0], help="numbers of real cases; 0 stands for all"
    )
    parser.add_argument("--relabel", action="store_true", help="rows with masks by a segmenter of the real cases")
    parser.add_argument("--architecture", choices=LEARNING_RATES, default="unet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=128, help="side in pixels that segmenters look at")
    parser.add_argument("--limit", type=int, help="read only the first so many real training images (dry runs)")
    parser.add_argument("--draw", type=int, default=0, help="seed of which real cases are drawn")
    return parser.parse_args()


if __name__ == "__main__":
    main()
