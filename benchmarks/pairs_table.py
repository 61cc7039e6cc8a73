"""Does a segmenter trained on synthetic pairs find real lungs? The table that arXiv 2503.07209 is about.

    python benchmarks/pairs_table.py --data DIR --pairs out/pairs -o out/pairs-table

`out/pairs` comes from `skiagraph pairs --classes lung`. Test sets: Kermany test patients with trusted masks (children),
and the adult CC BY collection, another hospital and age. Two parts, at least three seeds each:

- what each stage of the masks is worth: segmenters on the same synthetic images with masks from the raw threshold, with
  the CRF, from the affinities' random walk, and the full way;
- what synthetic pairs are worth: real only, synthetic only and both, with 10, 50, 200 and all real cases.

Every run has the same number of steps. The interval is a bootstrap over test images of the mean over seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from machine import machine
from skiagraph.data.datasets import Record, load_records, read_folder
from skiagraph.data.images import read_radiograph, square
from skiagraph.data.masks import read_mask
from skiagraph.errors import DataError
from skiagraph.evaluation import bootstrap, dice, iou, pooled_iou
from skiagraph.files import write_json
from skiagraph.masks.crf import dense_crf, unary_from_probabilities
from skiagraph.masks.refine import BACKGROUND, label_map, walk_heats
from skiagraph.models.affinity_net import AffinityNet
from skiagraph.models.registry import load_component
from skiagraph.training.images import to_model_range
from skiagraph.training.loop import train
from skiagraph.training.recipe import DataConfig, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.segmenter import Pairs, SegmenterTask

SIZE, REAL = 128, "kermany_pneumonia"
TESTS = {"children, same source": "kermany_pneumonia", "adults, elsewhere": "covid_chestxray_ccby"}


def main() -> None:
    """Train and test every row, print the table and write results.json."""
    args = _arguments()
    tests = {name: _real(load_records([key], args.data, splits=["test"])) for name, key in TESTS.items()}
    real = _real(load_records([REAL], args.data, splits=["train"]))
    stages = _stages(args.pairs)
    sets: dict[str, Pairs] = {f"synthetic, {name}": pairs for name, pairs in stages.items()}
    synthetic = stages["full"]
    for count in (*(c for c in args.real if c < len(real[0])), len(real[0])):
        sets[f"real only, {count}"] = _first(real, count, args)
        sets[f"real + synthetic, {count}"] = sets[f"real only, {count}"], synthetic
    rows = []
    for name, pairs in sets.items():
        scores = {test: {"dice": [], "iou": [], "pooled": []} for test in tests}
        for seed in track(range(args.seeds), name, transient=True):
            model = _trained(pairs, seed, args)
            for test, (images, masks) in tests.items():
                predicted = torch.cat([model.segment(to_model_range(c)) for c in images.split(32)]).numpy() > 0
                true = masks[:, 0].numpy() > 0
                scores[test]["dice"].append(dice(predicted, true).details["values"])
                scores[test]["iou"].append(iou(predicted, true).details["values"])
                scores[test]["pooled"].append(pooled_iou(predicted, true).value)
        rows += [_row(name, test, found) for test, found in scores.items()]
        for row in rows[-len(tests) :]:
            interval = f"{row['dice']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            print(f"{name:28s} {row['test']:24s} Dice {interval} IoU {row['iou']:.3f} pooled {row['pooled']:.3f}")
    write_json(
        args.output / "results.json",
        {"settings": {k: str(v) for k, v in vars(args).items()}, "machine": machine(), "rows": rows},
    )


def _row(name: str, test: str, scores: dict[str, list]) -> dict:
    per_image = np.mean(scores["dice"], axis=0)
    low, high = bootstrap(np.mean, per_image)
    return {
        "name": name, "test": test, "n": len(per_image), "dice": float(per_image.mean()), "low": low, "high": high,
        "iou": float(np.mean(scores["iou"])), "pooled": float(np.mean(scores["pooled"])),
        "dice_by_seed": [float(np.mean(s)) for s in scores["dice"]],
    }  # fmt: skip


def _trained(pairs: Pairs | tuple[Pairs, Pairs], seed: int, args: argparse.Namespace) -> torch.nn.Module:
    if isinstance(pairs[0], tuple):  # real and synthetic: as many of each in a batch, on average
        first, second = pairs
        times = max(1, len(second[0]) // max(1, len(first[0])))
        pairs = tuple(torch.cat([a.repeat(times, 1, 1, 1), b]) for a, b in zip(first, second, strict=True))
    optim = OptimConfig(
        steps=args.steps, batch_size=16, learning_rate=2e-3, weight_decay=0.01, ema_decay=0.99, precision="no",
        validate_every=0, warmup_steps=50, tensorboard=False,
    )  # fmt: skip
    recipe = SegmenterRecipe(task="segmenter", seed=seed, data=DataConfig(datasets=[], image_size=SIZE), optim=optim)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        return load_component(train(recipe, SegmenterTask(recipe, pairs, pairs), folder, quiet=True)).eval()


def _real(records: list[Record]) -> Pairs:
    images, masks = [], []
    for record in records:
        if record.mask is None or not record.mask_trusted:
            continue
        try:
            masks.append(read_mask(record.mask, SIZE, fit="crop", classes=["lung"]))
        except DataError:
            continue
        images.append(square(read_radiograph(record.path).pixels, SIZE, fit="crop"))
    return _tensor((np.array(images) * 255).round().astype(np.uint8)), _tensor(np.array(masks))


def _first(pairs: Pairs, count: int, args: argparse.Namespace) -> Pairs:
    order = torch.randperm(len(pairs[0]), generator=torch.Generator().manual_seed(args.draw))[:count]
    return pairs[0][order], pairs[1][order]


def _stages(folder: Path) -> dict[str, Pairs]:
    """The kept synthetic images with the masks that each stage alone would give them."""
    network = AffinityNet.from_pretrained(folder / "work/affinity/model", use_safetensors=True).eval()
    made: dict[str, list[np.ndarray]] = {"raw threshold": [], "+ CRF": [], "affinity walk": [], "full": []}
    images = []
    for record in track(read_folder(folder), "masks of each stage", transient=True):
        image = np.array(Image.open(record.path).convert("L"))
        heat = np.array(Image.open(folder / "maps" / f"{record.path.stem}-lung.png").convert("L"), np.float32) / 255
        unary = unary_from_probabilities(np.stack([1 - heat, heat]))
        q = dense_crf(unary, image, bilateral_sxy=80, bilateral_schan=13, bilateral_compat=10)
        with torch.no_grad():
            features = network(to_model_range(torch.from_numpy(image)[None, None]))[0]
        made["raw threshold"].append(heat > 0.5)
        made["+ CRF"].append(q[1] > q[0])
        made["affinity walk"].append(label_map(walk_heats(heat[None], features), BACKGROUND) > 0)
        made["full"].append(np.array(Image.open(record.mask)) > 0)
        images.append(_small(image.astype(np.float32) / 255))
    stack = _tensor((np.array(images) * 255).round().astype(np.uint8))
    return {name: (stack, _tensor(np.array([_small(m) >= 0.5 for m in masks]))) for name, masks in made.items()}


def _small(picture: np.ndarray) -> np.ndarray:
    return square(picture.astype(np.float32), SIZE, fit="crop")


def _tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures.astype(np.uint8))[:, None]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("--pairs", type=Path, required=True, help="output of `skiagraph pairs`")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/pairs-table"))
    parser.add_argument("--real", type=int, nargs="+", default=[10, 50, 200], help="numbers of real cases")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--draw", type=int, default=0, help="seed of which real cases are drawn")
    return parser.parse_args()


if __name__ == "__main__":
    main()
