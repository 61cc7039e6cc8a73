"""What holds segmenters trained on synthetic pairs back: the images, or their masks?

    python benchmarks/pairs_limits.py --data DIR --pairs out/pairs -o out/pairs-limits

The kept images of a `skiagraph pairs` run get masks in three ways: their own from attention; those that the filter's
segmenters, each trained on the other folds, predict; and those of the shipped lung segmenter, which has learned from
drawn masks and so shows what the images would allow. Segmenters trained on each are tested on validation patients, in
the way of `pairs_table.py`. Beside each stands the overlap of its masks with the lung segmenter's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from held_out import REAL
from machine import machine
from pairs_table import LEARNING_RATES, dice_by_image, segmenter_recipe, trained
from skiagraph.data.datasets import load_records, read_folder
from skiagraph.engine.pairs import FOLDS
from skiagraph.evaluation import bootstrap
from skiagraph.files import write_json
from skiagraph.masks.folds import folds
from skiagraph.models.registry import load_component
from skiagraph.pipelines.organs import SEGMENTER, find_lungs
from skiagraph.training.tasks.segmenter import label_maps, load_pairs


def main() -> None:
    """Train and test with every kind of mask, print a row each and write results.json."""
    args = _arguments()
    recipe = segmenter_recipe(args, seed=0)
    validation = load_pairs(load_records([REAL], args.data, splits=["val"])[:: args.every], recipe)
    images, own = load_pairs(read_folder(args.pairs), recipe)
    reference = (find_lungs(load_component(SEGMENTER).eval(), images) > 0)[:, None].to(torch.uint8)
    kinds = {"attention": own, "filter's segmenters": _by_folds(args.pairs, images), "lung segmenter": reference}
    rows = []
    for name, masks in kinds.items():
        models = [trained((images, masks), segmenter_recipe(args, seed)) for seed in range(args.seeds)]
        found = [dice_by_image(model, validation) for model in models]
        scores = np.mean(found, axis=0)
        row = {"masks": name, "dice": [float(scores.mean()), *bootstrap(np.mean, scores)]}
        rows.append(row | {"overlap": _overlap(masks, reference)})
        print(f"{name:20s} IoU with the lung segmenter {rows[-1]['overlap']:.3f}, Dice", *np.round(row["dice"], 3))
        about = {"n": len(validation[0]), "pairs": len(images), "seeds": args.seeds, "machine": machine()}
        write_json(args.output / "results.json", {**about, "rows": rows})


def _by_folds(run: Path, images: Tensor) -> Tensor:
    """Masks uint8 (n, 1, size, size) of the kept images, each from the segmenter that has not seen it."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    judged = [row for row in manifest["pairs"] if "agreement" in row]
    fold = np.zeros(len(judged), int)
    for number, (_, part) in enumerate(folds(len(judged), FOLDS, manifest["config"]["seed"])):
        fold[part] = number
    kept = fold[[row["dropped"] is None for row in judged]]
    masks = torch.zeros_like(images)
    for number in range(FOLDS):
        model = load_component(run / "work" / f"fold-{number}" / "model").float().eval()
        masks[kept == number, 0] = (label_maps(model, images[kept == number]) > 0).to(torch.uint8)
    return masks


def _overlap(masks: Tensor, reference: Tensor) -> float:
    both, either = ((f(masks > 0, reference > 0)).sum(dim=(1, 2, 3)) for f in (torch.logical_and, torch.logical_or))
    return float((both / either.clamp_min(1)).mean())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("--pairs", type=Path, required=True, help="output of `skiagraph pairs --classes lung`")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/pairs-limits"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--every", type=int, default=1, help="use only every so many-th validation image")
    parser.add_argument("--architecture", choices=LEARNING_RATES, default="unet")
    return parser.parse_args()


if __name__ == "__main__":
    main()
