"""Do draws of noise that disagree say where a latent segmenter is wrong?

    python benchmarks/uncertainty.py --data DIR -o out/uncertainty

Every test image is segmented from several draws of noise, in one step and in ten. The table has the Dice of the mean of
the draws; the rank correlation of an image's uncertainty (entropy of the votes, summed over its pixels, over the number
of those that are lung) with its error, 1 - Dice; and which share of the wrong pixels lies where any draw disagrees,
beside the share of all pixels that does. Intervals resample images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from scipy.stats import spearmanr

from held_out import LUNGS, evenly
from machine import machine
from skiagraph.data.datasets import load_records
from skiagraph.data.masks import LUNG_SIDES
from skiagraph.evaluation import bootstrap, dice
from skiagraph.files import write_json
from skiagraph.models.latent_segmenter import LatentSegmenter, vote_entropy
from skiagraph.models.registry import load_component
from skiagraph.training.images import to_model_range
from skiagraph.training.recipe import DataConfig, LatentSegmenterRecipe, OptimConfig
from skiagraph.training.tasks.segmenter import Pairs, load_pairs

STEPS = (1, 10)
COLUMNS = {
    "dice": "Dice of the mean",
    "correlation": "rank correlation with error",
    "caught": "wrong pixels where draws disagree",
    "marked": "all pixels where they do",
}


def main() -> None:
    """Measure every number of steps on every test set; JSON and Markdown."""
    args = _arguments()
    model = load_component(args.model).eval()
    rows = []
    for name, dataset in LUNGS.items():
        pairs = _cases(dataset, model, args)
        for steps in STEPS:
            values = [
                _measured(model, *pair, steps, args.draws) for pair in track(list(zip(*pairs, strict=True)), name)
            ]
            columns = {key: np.array([v[key] for v in values]) for key in values[0]}
            rows.append({"tested_on": name, "n": len(values), "steps": steps, **_row(columns)})
    write_json(args.output / "results.json", {"settings": {k: str(v) for k, v in vars(args).items()}, "rows": rows})
    table = markdown(rows)
    (args.output / "results.md").write_text(
        f"{args.draws} draws; {machine()['processor']}\n\n{table}", encoding="utf-8"
    )
    print(table)


def _cases(dataset: str, model: LatentSegmenter, args: argparse.Namespace) -> Pairs:
    """At most so many test images, evenly chosen, and their label maps."""
    recipe = LatentSegmenterRecipe(
        task="latent_segmenter", classes=list(LUNG_SIDES), optim=OptimConfig(steps=1, batch_size=1, learning_rate=1e-3),
        data=DataConfig(datasets=[dataset], root=args.data, image_size=model.config.working_size),
    )  # fmt: skip
    images, masks = load_pairs(load_records([dataset], args.data, splits=["test"]), recipe)
    chosen = evenly(len(images), args.cases)
    return images[chosen], masks[chosen]


def _measured(
    model: LatentSegmenter, image: torch.Tensor, mask: torch.Tensor, steps: int, draws: int
) -> dict[str, float]:
    """Dice, uncertainty, and counts of pixels of one image."""
    scores = model.draws(to_model_range(image[None]), draws, steps=steps)
    doubt = vote_entropy(scores)[0].numpy()
    found, true = scores.mean(dim=0).argmax(dim=1)[0].numpy(), mask[0].numpy()
    overlap = np.mean([dice((found == k)[None], (true == k)[None]).value for k in range(1, len(LUNG_SIDES) + 1)])
    wrong = found != true
    return {
        "dice": float(overlap), "doubt": float(doubt.sum() / max(1, (found > 0).sum())), "wrong": int(wrong.sum()),
        "caught": int((wrong & (doubt > 0)).sum()), "marked": float((doubt > 0).mean()),
    }  # fmt: skip


def _row(columns: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    measures = {
        "dice": (np.mean, columns["dice"]),
        "correlation": (lambda doubt, error: float(spearmanr(doubt, error)[0]), columns["doubt"], 1 - columns["dice"]),
        "caught": (lambda caught, wrong: caught.sum() / wrong.sum(), columns["caught"], columns["wrong"]),
        "marked": (np.mean, columns["marked"]),
    }
    row = {}
    for name, (measure, *arrays) in measures.items():
        low, high = bootstrap(measure, *arrays)
        row[name] = {"value": float(measure(*arrays)), "low": low, "high": high}
    return row


def markdown(rows: list[dict]) -> str:
    """The table."""
    lines = [f"| tested on | n | steps | {' | '.join(COLUMNS.values())} |", "| --- " * (3 + len(COLUMNS)) + "|"]
    for row in rows:
        values = [f"{row[c]['value']:.3f} ({row[c]['low']:.3f} to {row[c]['high']:.3f})" for c in COLUMNS]
        lines.append(f"| {row['tested_on']} | {row['n']} | {row['steps']} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/uncertainty"))
    parser.add_argument("--model", default="lung-segmenter-latent", help="a latent segmenter of lungs: name or folder")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--cases", type=int, default=100, help="test images of each test set, evenly chosen")
    return parser.parse_args()


if __name__ == "__main__":
    main()
