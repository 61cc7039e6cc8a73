"""Does a segmenter trained on synthetic pairs find real lungs? The table that arXiv 2503.07209 is about, with controls.

    skiagraph pairs --prompts examples/prompts.csv -n 500 --dtype bfloat16 -o out/pairs
    python benchmarks/pairs_table.py --pairs out/pairs --split val --share 0.3 0.5 0.7 -o out/pairs-share
    python benchmarks/pairs_table.py --pairs out/pairs --share 0.5 -o out/pairs-table

Segmenters of one size and one number of steps are trained on real pairs only, on synthetic ones only and on both, with
some numbers of real cases and three seeds. Two controls tell the method from its circumstances: stronger augmentation
of the real cases, and self-training, in which a segmenter of the same real cases draws the masks of `--unlabelled` real
images, as many as there are synthetic ones, of the data sets that the generator was trained on. `--source montgomery`
asks the same of adults. `--split val` is for choosing, on patients that no table reports.

Intervals are over patients and seeds together. Every "better" is a paired difference on the same patients and seeds,
with p-values corrected for their number (Holm). Each trained segmenter leaves a file in `cells/`, so that the same
command goes on where it was stopped.

Mind that the shipped model was taught where "right lung" and "left lung" are by a segmenter that had seen drawn masks
of training patients: synthetic pairs of that model bring along what those taught. A model that has seen none is trained
by `text-to-image-without-masks.yaml`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from held_out import SOURCES
from machine import machine
from skiagraph.data.datasets import Record, load_records, read_folder
from skiagraph.engine.manifest import open_manifest, save_manifest
from skiagraph.evaluation import MetricResult
from skiagraph.evaluation.statistics import grouped_mean, holm, paired_difference
from skiagraph.files import atomic_path, write_json
from skiagraph.models.registry import load_component
from skiagraph.progress import silent
from skiagraph.training.images import load_images
from skiagraph.training.loop import train
from skiagraph.training.recipe import DataConfig, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.segmenter import Pairs, SegmenterTask, label_maps, load_pairs, read_masks

LEARNING_RATES = {"unet": 2e-3, "unetr": 5e-4, "transunet-type": 5e-4}
"""A transformer's is lower, as is usual."""

STRONGER = 1.5
"""Ranges of augmentation in the rows with more of it, over the usual ones."""


@dataclass(frozen=True)
class Row:
    """One way of training: pairs for a seed, ranges of augmentation, and the rows it is compared with."""

    pairs: Callable[[int], Pairs]
    augmentation: float = 1.0
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestSet:
    """Images, masks and the patient of each."""

    pairs: Pairs
    patients: np.ndarray


def main() -> None:
    """Train and test what is missing, print the tables and write results.json and table.md."""
    args = _arguments()
    recipe = segmenter_recipe(args, seed=0)
    tests = {name: _test_set(args, recipe, key) for name, key in SOURCES[args.source].items()}
    settings = {k: str(v) for k, v in vars(args).items() if k not in ("output", "seeds", "real", "share")}
    save_manifest(args.output, open_manifest(args.output, "pairs-table", settings))
    rows = dict(_rows(args, recipe))
    dice = {name: _dice(args, name, row, tests) for name, row in rows.items()}
    means = {
        (name, test): grouped_mean("Dice", values[test], tests[test].patients, "higher")
        for name, values in dice.items()
        for test in tests
    }
    gains = {
        (name, other, test): paired_difference("Dice", dice[name][test], dice[other][test], held.patients, "higher")
        for name, row in rows.items()
        for other in row.against
        for test, held in tests.items()
    }
    table = f"{_means_table(means)}\n\n{_gains_table(gains)}"
    print(table)
    (args.output / "table.md").write_text(table + "\n", encoding="utf-8")
    found = {" / ".join(key): result.to_dict() for key, result in (means | gains).items()}
    write_json(args.output / "results.json", {**settings, "machine": machine(), "results": found})


def _rows(args: argparse.Namespace, recipe: SegmenterRecipe) -> Iterator[tuple[str, Row]]:
    real = load_pairs(load_records([args.source], args.data, splits=["train"])[: args.limit], recipe)
    synthetic = load_pairs(read_folder(args.pairs), recipe)
    number = len(synthetic[0])
    unlabelled = _images(load_records(args.unlabelled, args.data, splits=["train"]), number, recipe)
    order = torch.randperm(len(real[0]), generator=torch.Generator().manual_seed(args.draw))
    counts = sorted({min(count or len(order), len(order)) for count in args.real})
    for count in counts:
        drawn = tuple(part[order[:count]] for part in real)
        alone = f"real {count}"
        stronger, own = f"{alone}, augmented more", f"{alone} and {number} self-labelled"
        yield alone, Row(lambda seed, drawn=drawn: drawn)
        yield stronger, Row(lambda seed, drawn=drawn: drawn, STRONGER, (alone,))
        yield own, Row(_self_trained(args, drawn, unlabelled), 1.0, (alone,))
        for share in args.share:
            yield (
                f"real {count} and {number} synthetic, {share or 'as many as there are'}",
                Row(lambda seed, drawn=drawn, share=share: mixed(drawn, synthetic, share), 1.0, (alone, stronger, own)),
            )
    yield f"synthetic {number}", Row(lambda seed: synthetic, 1.0, (f"real {counts[-1]}",))


def _self_trained(args: argparse.Namespace, drawn: Pairs, images: Tensor) -> Callable[[int], Pairs]:
    """The real pairs and unlabelled images with the masks that a segmenter of the real pairs finds in them."""

    def pairs(seed: int) -> Pairs:
        model = trained(drawn, segmenter_recipe(args, seed))
        return mixed(drawn, (images, (label_maps(model, images) > 0).to(torch.uint8)[:, None]), 0.5)

    return pairs


def mixed(real: Pairs, made: Pairs, share: float) -> Pairs:
    """Both, repeated so that about `share` of a batch is of the second; as many as there are of each where it is 0."""
    if not share:
        return tuple(torch.cat(parts) for parts in zip(real, made, strict=True))
    total = max(len(real[0]) / (1 - share), len(made[0]) / share)
    sizes = round(total * (1 - share)), round(total * share)
    both = zip(sizes, (real, made), strict=True)
    repeated = [[part[torch.arange(size) % len(part)] for part in pairs] for size, pairs in both]
    return tuple(torch.cat(parts) for parts in zip(*repeated, strict=True))


def _images(records: list[Record], number: int, recipe: SegmenterRecipe) -> Tensor:
    chosen = np.random.default_rng(0).permutation(len(records))[:number]
    return load_images([records[i] for i in sorted(chosen)], recipe.data.image_size, recipe.data.fit)


def _test_set(args: argparse.Namespace, recipe: SegmenterRecipe, dataset: str) -> TestSet:
    records, masks = read_masks(load_records([dataset], args.data, splits=[args.split]), recipe)
    images = load_images(records, recipe.data.image_size, recipe.data.fit)
    return TestSet((images, masks), np.array([record.patient for record in records]))


def segmenter_recipe(args: argparse.Namespace, seed: int, augmentation: float = 1.0) -> SegmenterRecipe:
    """How a cell's segmenter is trained, by `steps`, `size`, `architecture`, `source` and `data` of the arguments."""
    optim = OptimConfig(
        steps=args.steps, batch_size=16, learning_rate=LEARNING_RATES[args.architecture], weight_decay=0.01,
        ema_decay=0.99, precision="float32", validate_every=0, warmup_steps=50, tensorboard=False,
    )  # fmt: skip
    data = DataConfig(datasets=[args.source], root=args.data, image_size=args.size)
    return SegmenterRecipe(
        task="segmenter", seed=seed, data=data, optim=optim, classes=["lung"], architecture=args.architecture,
        augmentation=augmentation,
    )  # fmt: skip


def trained(pairs: Pairs, recipe: SegmenterRecipe) -> torch.nn.Module:
    """A segmenter after its last step on these pairs."""
    torch.manual_seed(recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        return load_component(train(recipe, SegmenterTask(recipe, pairs, pairs), folder, listen=silent)).float().eval()


def _dice(args: argparse.Namespace, name: str, row: Row, tests: dict[str, TestSet]) -> dict[str, np.ndarray]:
    """Dice (seeds, n) on every test set, of segmenters trained where no file has them."""
    cells = []
    for seed in track(range(args.seeds), name, transient=True):
        path = args.output / "cells" / f"{name.replace(' ', '-')}-{seed}.npz"
        if not path.is_file():
            model = trained(row.pairs(seed), segmenter_recipe(args, seed, row.augmentation))
            with atomic_path(path) as temporary, open(temporary, "wb") as stream:
                np.savez(stream, **{test: dice_by_image(model, held.pairs) for test, held in tests.items()})
        cells.append(np.load(path))
    return {test: np.stack([cell[test] for cell in cells]) for test in tests}


def dice_by_image(model: torch.nn.Module, pairs: Pairs) -> np.ndarray:
    """Dice of each image, (n,)."""
    predicted, true = label_maps(model, pairs[0]) > 0, pairs[1][:, 0] > 0
    both, one, other = (m.sum(dim=(-1, -2)).numpy() for m in (predicted & true, predicted, true))
    return 2 * both / np.maximum(one + other, 1)


def _means_table(means: dict[tuple[str, str], MetricResult]) -> str:
    lines = ["| trained on | tested on | n | patients | Dice |", "| --- | --- | ---: | ---: | ---: |"]
    for (name, test), found in means.items():
        lines.append(f"| {name} | {test} | {found.n} | {found.details['patients']} | {_interval(found)} |")
    return "\n".join(lines)


def _gains_table(gains: dict[tuple[str, str, str], MetricResult]) -> str:
    corrected = holm(np.array([found.details["p"] for found in gains.values()]))
    lines = ["| Dice of | minus that of | tested on | difference | p (Holm) |", "| --- | --- | --- | ---: | ---: |"]
    for ((name, other, test), found), p in zip(gains.items(), corrected, strict=True):
        lines.append(f"| {name} | {other} | {test} | {_interval(found, '+')} | {p:.3f} |")
    return "\n".join(lines)


def _interval(found: MetricResult, sign: str = "") -> str:
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("--pairs", type=Path, required=True, help="output of `skiagraph pairs --classes lung`")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/pairs-table"))
    parser.add_argument("--source", choices=SOURCES, default="kermany_pneumonia", help="where the real cases come from")
    parser.add_argument(
        "--real", type=int, nargs="+", default=[10, 50, 200, 0], help="numbers of real cases; 0 stands for all"
    )
    parser.add_argument(
        "--share", type=float, nargs="+", default=[0.5], help="of a batch that is synthetic; 0 puts all pairs together"
    )
    parser.add_argument("--unlabelled", nargs="+", default=["nih_chestxray14"], help="data sets of self-training")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="what is tested on; val to choose")
    parser.add_argument("--architecture", choices=LEARNING_RATES, default="unet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=128, help="side in pixels that segmenters look at")
    parser.add_argument("--limit", type=int, help="read only the first so many real training images (dry runs)")
    parser.add_argument("--draw", type=int, default=0, help="seed of which real cases are drawn")
    return parser.parse_args()


if __name__ == "__main__":
    main()
