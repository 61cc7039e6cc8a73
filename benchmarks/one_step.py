"""Is one step enough, and what makes it work? The tables of SynDiff's segmenter (arXiv 2507.15361), one command each.

    python benchmarks/one_step.py speed --data DIR -o out/one-step      # (a) 1, 10, 50, 100 steps of one model
    python benchmarks/one_step.py peers --data DIR -o out/one-step      # (b) beside others, same data and time
    python benchmarks/one_step.py ablations --data DIR -o out/one-step  # (e) encoder, loss, timestep

Every model is trained for the same wall time on the machine at hand (`--minutes`), or for equally many steps
(`--steps`), and tested, once, after its last step. Trained models are kept in `-o DIR/cells` and shared by the tables;
an interrupted command goes on from there. Times are of one picture alone, everything from image to label map included.
Intervals are over patients (sequences of CVC-ClinicDB) and seeds together; peers and ablations are besides compared
with the first row on the same patients and seeds, p-values corrected for their number (Holm). On a busy machine equal
minutes are not equal work: run it alone, or by steps.

With the defaults, `speed` takes 30 minutes of training and about 20 of testing, `peers` two and a half hours more, and
`ablations` nine more models or 4.5 hours, for each seed; `--only` takes some of them. `speed --model
lung-segmenter-latent` and `peers --model lung-segmenter-latent lung-segmenter` test what ships instead.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

import nnunet
from held_out import POLYPS, REAL, evenly, test_sets
from imagenet_unet import ImageNetUNet, ImageNetUNetTask
from machine import machine
from skiagraph.data.datasets import load_records
from skiagraph.data.masks import LUNG_SIDES
from skiagraph.devices import fast_bfloat16
from skiagraph.evaluation import MetricResult, dice, hd95, iou
from skiagraph.evaluation.statistics import grouped_mean, holm, paired_difference
from skiagraph.files import write_json
from skiagraph.models.registry import load_component
from skiagraph.training.images import load_images, to_model_range
from skiagraph.training.loop import make_optimizers, step_generator, train
from skiagraph.training.recipe import DataConfig, LatentSegmenterRecipe, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.latent_segmenter import LatentSegmenterTask
from skiagraph.training.tasks.segmenter import SegmenterTask, read_masks, splits_of

SIZE = 256
STEPS = (1, 10, 50, 100)
TIMESTEPS = (25, 50, 100, 200, 999)
MASK_LOSS = {"mask_weight": 1.0}
METRICS = {"dice": dice, "iou": iou, "hd95": hd95}
DIRECTIONS = {"dice": "higher", "iou": "higher", "hd95": "lower"}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TRIED = 8
"""Training steps that the time of one is measured on, after two that do not count."""

AnyRecipe = LatentSegmenterRecipe | SegmenterRecipe
Predict = Callable[[nn.Module, Tensor], Tensor]


def in_one_step(model: nn.Module, images: Tensor) -> Tensor:
    """Label maps as a model gives them unasked."""
    return model.segment(images)


@dataclass(frozen=True)
class Cases:
    """Test pictures uint8 (n, c, h, w), label maps (n, h, w) and the patient of each."""

    images: Tensor
    labels: np.ndarray
    patients: list[str]


class Bench:
    """Data read once, models trained once."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.polyps = args.dataset in POLYPS
        self.classes = ["polyp"] if self.polyps else list(LUNG_SIDES)
        recipe = self.latent(0)
        self.train, self.val = splits_of(recipe)
        self.tests = {name: self._cases(dataset, recipe) for name, dataset in test_sets(args.dataset).items()}

    def _cases(self, dataset: str, recipe: LatentSegmenterRecipe) -> Cases:
        records, labels = read_masks(load_records([dataset], self.args.data, splits=["test"]), recipe)
        chosen = evenly(len(records), self.args.cases)
        records = [records[i] for i in chosen]
        images = load_images(records, SIZE, recipe.data.fit, recipe.in_channels)
        return Cases(images, labels[chosen, 0].numpy(), [r.patient for r in records])

    def latent(self, seed: int, **changes: Any) -> LatentSegmenterRecipe:
        """The latent segmenter's recipe; its noise prediction wants full precision."""
        precision = "float32" if changes.get("prediction_type") == "epsilon" else "auto"
        return LatentSegmenterRecipe(
            task="latent_segmenter", **self._common(seed, precision, learning_rate=1e-3, ema_decay=0.998), **changes
        )

    def imagenet(self, seed: int) -> LatentSegmenterRecipe:
        """The latent segmenter with a loss of masks whose vision encoder begins as a network that ImageNet taught."""
        common = self._common(seed, "auto", learning_rate=5e-4, ema_decay=0.995, batch_size=8)
        model = {"vision_network": "efficientnet-lite0"}
        return LatentSegmenterRecipe(task="latent_segmenter", **common, model=model, **MASK_LOSS)

    def unet(self, seed: int) -> SegmenterRecipe:
        """MONAI's U-Net, as the shipped lung segmenter is trained, at the latent segmenter's size."""
        return SegmenterRecipe(task="segmenter", **self._common(seed, "auto", learning_rate=2e-3, ema_decay=0.995))

    def imagenet_unet(self, seed: int) -> nn.Module:
        """A U-Net that begins as the same network, trained as long and in such steps, unless it is there already."""
        common = self._common(seed, "auto", learning_rate=5e-4, ema_decay=0.995, batch_size=8)
        recipe = SegmenterRecipe(task="segmenter", **common)
        return self.trained("imagenet-unet", recipe, ImageNetUNetTask, ImageNetUNet.from_pretrained)

    def nnunet(self, seed: int) -> nn.Module:
        """A U-Net trained as nnU-Net trains, unless it is there already."""
        return nnunet.trained(
            self.train, len(self.classes) + 1, mirror=self.polyps, minutes=self.args.minutes, seed=seed,
            folder=self.cell("nnunet", seed),
        )  # fmt: skip

    def _common(self, seed: int, precision: str, **optim: float) -> dict[str, Any]:
        args = self.args
        return {
            "seed": seed, "classes": self.classes, "in_channels": 3 if self.polyps else 1, "mirror": self.polyps,
            "data": DataConfig(datasets=[args.dataset], root=args.data, image_size=SIZE),
            "take": {args.dataset: args.limit} if args.limit else {},
            "optim": OptimConfig(
                steps=1, weight_decay=0.01, precision=precision, validate_every=0, tensorboard=False,
                **{"batch_size": 16, **optim},
            ),
        }  # fmt: skip

    def trained(
        self, name: str, recipe: AnyRecipe, kind: Callable | None = None, load: Callable = load_component
    ) -> nn.Module:
        """The cell's model, trained for the given minutes or steps unless it is there already."""
        folder = self.cell(name, recipe.seed)
        if not (folder / "model").is_dir():
            kind = kind or (SegmenterTask if isinstance(recipe, SegmenterRecipe) else LatentSegmenterTask)
            budget = folder / "steps.json"
            if not budget.is_file():
                torch.manual_seed(recipe.seed)
                write_json(budget, self.args.steps or self._affordable(kind(recipe, self.train, self.val)))
            optim = recipe.optim.model_copy(update={"steps": int(budget.read_text())})
            recipe = recipe.model_copy(update={"optim": optim})
            torch.manual_seed(recipe.seed)
            print(f"{folder.name}: {optim.steps} steps", flush=True)
            train(recipe, kind(recipe, self.train, self.val), folder)
        return load(folder / "model").to(DEVICE).eval()

    def _affordable(self, task: SegmenterTask | LatentSegmenterTask) -> int:
        """Steps that the given minutes allow."""
        return max(1, int(60 * self.args.minutes / seconds_per_step(task)))

    def cell(self, name: str, seed: int) -> Path:
        return self.args.output / "cells" / f"{self.args.dataset}-{name}-{seed}"

    def rows(self, name: str, models: list[nn.Module], predict: Predict = in_one_step) -> Iterator[dict[str, Any]]:
        """A table's rows, one for every test set."""
        for tested_on, cases in self.tests.items():
            yield {"name": name, "tested_on": tested_on, **self._row(name, cases, models, predict)}

    def _row(self, name: str, cases: Cases, models: list[nn.Module], predict: Predict) -> dict[str, Any]:
        """Measures over the cases, and seconds of one picture; means over the seeds' models."""
        values: dict[str, list] = {metric: [] for metric in METRICS}
        seconds = []
        for model in models:
            for picture in cases.images[:3].split(1):  # what is made once is not timed
                predict(model, to_model_range(picture).to(DEVICE))
            found = []
            for picture in track(cases.images.split(1), name, transient=True):
                started = time.perf_counter()
                found.append(predict(model, to_model_range(picture).to(DEVICE))[0].cpu().numpy())
                seconds.append(time.perf_counter() - started)
            for metric, per_image in score(np.stack(found), cases.labels, len(self.classes)).items():
                values[metric].append(per_image)
        patients = np.array(cases.patients)
        measures = {m: grouped_mean(m, np.stack(v), patients, DIRECTIONS[m]) for m, v in values.items()}
        row = {"n": len(patients), "patients": len(set(cases.patients)), **measures}
        row |= {"values": {m: np.stack(v).tolist() for m, v in values.items()}, "people": cases.patients}
        row["milliseconds"] = 1000 * float(np.median(seconds))
        row["parameters"] = sum(p.numel() for p in models[0].parameters())
        print(f"{name:24s} {row['milliseconds']:8.1f} ms ", *measures_of(row), sep="  ", flush=True)
        return row

    def ready(self) -> dict[str, list[nn.Module]]:
        """The models that are not to be trained, by name."""
        return {name: [load_component(name).to(DEVICE).eval()] for name in self.args.model}

    def chosen(self, rows: dict[str, Any]) -> list[tuple[str, Any]]:
        """The rows that `--only` names; all where it names none."""
        only = self.args.only or rows
        return [(name, change) for name, change in rows.items() if name in only]

    def models(self, name: str, make: Callable[[int], AnyRecipe]) -> list[nn.Module]:
        return [self.trained(name, make(seed)) for seed in range(self.args.seeds)]


def speed(bench: Bench) -> Iterator[dict[str, Any]]:
    """(a) A model, from one step to a hundred."""
    for name, models in (bench.ready() or {"latent": bench.models("base", bench.latent)}).items():
        for steps in STEPS:
            yield from bench.rows(f"{name}, {steps} step(s)", models, lambda m, x, s=steps: m.segment(x, steps=s))


def peers(bench: Bench) -> Iterator[dict[str, Any]]:
    """(b) The latent segmenters, U-Nets and a U-Net trained as nnU-Net trains, after equal training time or steps."""
    if bench.args.model:
        for name, models in bench.ready().items():
            yield from bench.rows(name, models)
        return
    makes: dict[str, tuple[str, Callable[[], list[nn.Module]]]] = {
        "base": ("latent, one step", lambda: bench.models("base", bench.latent)),
        "mask-loss": (
            "latent, a loss of masks too", lambda: bench.models("mask-loss", lambda s: bench.latent(s, **MASK_LOSS))
        ),
        "imagenet": ("latent, begun on ImageNet", lambda: bench.models("imagenet", bench.imagenet)),
        "unet": ("MONAI U-Net", lambda: bench.models("unet", bench.unet)),
        "imagenet-unet": (
            "U-Net, begun on ImageNet", lambda: [bench.imagenet_unet(seed) for seed in range(bench.args.seeds)]
        ),
        "nnunet": ("nnU-Net style", lambda: [bench.nnunet(seed) for seed in range(bench.args.seeds)]),
    }  # fmt: skip
    for _, (title, make) in bench.chosen(makes):
        yield from bench.rows(title, make())


def ablations(bench: Bench) -> Iterator[dict[str, Any]]:
    """(e) Vision encoder, loss and timestep, one changed at a time; the paper's own setting has rows of its own."""
    changes: dict[str, dict[str, Any]] = {
        "base": {},
        "frozen": {"train_vision": False},
        "latent-loss": {"noise_weight": 0.0},
        "mask-loss": MASK_LOSS,
        **{f"step-at-{t}": {"timestep": t} for t in TIMESTEPS[:-1]},
    }
    for name, change in bench.chosen(changes):
        models = bench.models(name, lambda seed, c=change: bench.latent(seed, **c))
        yield from bench.rows(name, models)
    paper: dict[str, Any] = {"prediction_type": "epsilon", "one_step_share": 0.0}
    for name, change in bench.chosen({"paper": paper, "paper-noise-loss": {**paper, "latent_weight": 0.0}}):
        models = bench.models(name, lambda seed, c=change: bench.latent(seed, **c))
        for t in TIMESTEPS:
            yield from bench.rows(f"{name}, t = {t}", models, lambda m, x, t=t: m.scores(x, timestep=t).argmax(dim=1))
        yield from bench.rows(f"{name}, 10 steps", models, lambda m, x: m.segment(x, steps=10))


TABLES = {"speed": speed, "peers": peers, "ablations": ablations}


def seconds_per_step(task: SegmenterTask | LatentSegmenterTask) -> float:
    """Wall time of one training step, measured on a model that is thrown away."""
    optim = task.recipe.optim
    task.to(DEVICE)
    [optimizer] = make_optimizers(task.model.to(DEVICE), optim).values()
    started = 0.0
    for step in range(TRIED + 2):
        if step == 2:
            started = time.perf_counter()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=optim.precision == "auto" and fast_bfloat16(DEVICE)):
            loss, _ = task.loss(task.model, optim.batch_size, step_generator(0, step, 0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for an accelerator
    return (time.perf_counter() - started) / TRIED


def score(predicted: np.ndarray, true: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Every measure of every image, a mean over the classes."""
    return {
        name: np.mean([m(predicted == k, true == k).details["values"] for k in range(1, classes + 1)], axis=0)
        for name, m in METRICS.items()
    }


def measures_of(row: dict[str, Any]) -> list[str]:
    """A row's measures with their intervals, as text."""
    return [interval(row[metric], digits) for metric, digits in (("dice", 3), ("iou", 3), ("hd95", 1))]


def interval(found: MetricResult, digits: int, sign: str = "") -> str:
    """Value and interval as text."""
    value, low, high = (f"{x:{sign}.{digits}f}" for x in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def differences(rows: list[dict[str, Any]]) -> str:
    """Every row's Dice and HD95 less those of the first row of its test set, on the same patients and seeds."""
    first: dict[str, dict[str, Any]] = {}
    pairs = [(row, base) for row in rows if (base := first.setdefault(row["tested_on"], row)) is not row]
    head = [f"| what | tested on |{' over the first | p (Holm) |'.join([' Dice', ' HD95', ''])}", "| --- " * 6 + "|"]
    lines = [f"| {row['name']} | {row['tested_on']} |" for row, _ in pairs]
    for metric, digits in (("dice", 4), ("hd95", 2)):
        found = [
            paired_difference(
                metric, *(np.array(r["values"][metric]) for r in (row, base)), np.array(row["people"]),
                DIRECTIONS[metric],
            )
            for row, base in pairs
        ]  # fmt: skip
        corrected = holm(np.array([f.details["p"] for f in found]))
        lines = [
            f"{line} {interval(f, digits, '+')} | {p:.3f} |" for line, f, p in zip(lines, found, corrected, strict=True)
        ]
    return "\n".join([*head, *lines]) + "\n"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, times as multiples of the first row's."""
    lines = ["| what | tested on | n | time over the first's | Dice | IoU | HD95 (px) |", "| --- " * 7 + "|"]
    for row in rows:
        ratio = row["milliseconds"] / rows[0]["milliseconds"]
        cells = [row["name"], row["tested_on"], str(row["n"]), f"{ratio:.2f}", *measures_of(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make one table: JSON and Markdown."""
    args = _arguments()
    warnings.filterwarnings("ignore", message="a single step at timestep")  # it is what the table shows
    warnings.filterwarnings("ignore", category=FutureWarning)
    rows = list(TABLES[args.table](Bench(args)))
    settings = {k: str(v) for k, v in vars(args).items()}
    plain = [{k: v.to_dict() if isinstance(v, MetricResult) else v for k, v in row.items()} for row in rows]
    write_json(args.output / f"{args.table}.json", {"settings": settings, "machine": machine(), "rows": plain})
    tested = {row["tested_on"]: f"{row['n']} pictures of {row['patients']} patients or sequences" for row in rows}
    about = f"{'; '.join(f'{name}: {cases}' for name, cases in tested.items())}; {machine()}"
    compared = f"\n{differences(rows)}" if args.table != "speed" else ""
    text = f"{about}\n\n{markdown(rows)}{compared}"
    (args.output / f"{args.table}.md").write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/one-step"))
    parser.add_argument("--dataset", default=REAL, choices=[REAL, *POLYPS])
    parser.add_argument("--minutes", type=float, default=30, help="training time of each model")
    parser.add_argument("--steps", type=int, help="training steps of each model, in the place of --minutes")
    parser.add_argument(
        "--only", nargs="+", default=[], help="peers, ablations: these rows, the first of which is compared with"
    )
    parser.add_argument("--model", nargs="+", default=[], help="speed, peers: test these, train none; names or folders")
    parser.add_argument("--cases", type=int, default=100, help="test pictures of each test set, evenly chosen")
    parser.add_argument("--limit", type=int, help="use only so many training images")
    parser.add_argument("--seeds", type=int, default=1, help="models of each kind; a row is their mean")
    return parser.parse_args()


if __name__ == "__main__":
    main()
