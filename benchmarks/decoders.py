"""Is one perceptual decoder better than another? Both draw the same latents, of validation patients.

    python benchmarks/decoders.py --decoder cxr-256/perceptual_vae runs/decoder/model -o out/decoders

Latents are of n validation patients: samples of the model for their label rows, and their radiographs encoded.
Distances are to those radiographs, by two ImageNet networks against which no decoder was trained, and by the finest
patches (sliced Wasserstein). Samples are kept in the output folder. A weave is what a
network of fixed strides leaves: power at periods of 2, 4 and 8 pixels over that of the frequencies around, 1 for none.
Misplaced grain is how far, in doublings, the amount of finest detail is from the radiograph's in the same squares of 16
pixels; differences from the first decoder are paired, over patients.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from rich.progress import track
from safetensors.torch import load_file, save_file
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor

from held_out import squares
from machine import machine
from probes import DATASETS
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.datasets import Record, load_records
from skiagraph.devices import fast_bfloat16
from skiagraph.evaluation import kernel_distance, sliced_wasserstein
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.evaluation.result import MetricResult
from skiagraph.evaluation.statistics import grouped_mean, paired_difference
from skiagraph.files import atomic_path, weight_hashes, write_json
from skiagraph.models.registry import DEFAULT_MODEL, load_component, model_folder
from skiagraph.pipelines.text_to_image import TextToImagePipeline

NETWORKS = ("efficientnet-lite0", "efficientnet-lite2")
BATCH = 32
FINEST = 2
"""Levels of the pyramid whose patches are compared."""

PERIODS = (2, 4, 8)
AROUND = 6
"""Frequencies to each side of a period's that it is compared with."""

SQUARE = 16
ROUNDING = 1 / 255 / 12**0.5
"""What 8 bits leave of a flat square."""


def main() -> None:
    """Sample, draw with each decoder, print a row for it and write results.json."""
    args = _arguments()
    records = patients_of(DATASETS, "val", args)
    generated = sampled(records, args)
    pipeline = TextToImagePipeline.load(args.model)
    real = squares(records, pipeline.image_side, "pad")
    latents = {"generated": generated, "real": pipeline.encode(real)}
    judges = [(e, e.features(real)) for e in map(ImageNetExtractor, NETWORKS)]
    rows, misplaced = [], []
    print("radiographs", weave(real))
    for decoder in args.decoder:
        pipeline.perceptual_vae = load_component(decoder).eval()
        drawn = {kind: pipeline.draw(of, Generator().manual_seed(args.seed)) for kind, of in latents.items()}
        for kind, pictures in drawn.items():
            found = [kernel_distance(features, e.features(pictures), extractor=e.name) for e, features in judges]
            found += sliced_wasserstein(real, pictures)[:FINEST]
            row = {"decoder": decoder, "latents": kind, "weave": weave(pictures)}
            rows.append({**row, "distances": [f.to_dict() for f in found]})
            print(*row.values(), *(f"{f.extractor or f.name} {f.shown(2)}" for f in found))
        misplaced.append(np.abs(grain(drawn["real"]) - grain(real)).mean(axis=(1, 2)))
        of_first = grain_of_first(misplaced, records)
        rows[-1] |= {name: result.to_dict() for name, result in of_first.items()}
        print(*(f"{name} {result.shown(3)}" for name, result in of_first.items()))
    write_json(args.output / "results.json", {"n": len(records), "machine": machine(), "rows": rows})


def weave(images: np.ndarray) -> dict[str, float]:
    """Power at each period, along both axes and diagonally, over the median around; images (n, H, W) in [0, 1].

    Another measure than the one that decoders are trained by.
    """
    side = images.shape[-1]
    window = np.hanning(side)
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    power = np.mean(np.abs(np.fft.fft2(centred * window[:, None] * window)) ** 2, axis=0)
    y, x = np.mgrid[-AROUND : AROUND + 1, -AROUND : AROUND + 1]
    ring = np.maximum(abs(y), abs(x)) > 2  # the window spreads a peak over two
    found = {}
    for period in PERIODS:
        k = side // period
        peaks = [power[at] / np.median(power[(at[0] + y[ring]) % side, (at[1] + x[ring]) % side])
                 for at in ((0, k), (k, 0), (k, k))]  # fmt: skip
        found[f"{period} px"] = round(float(np.mean(peaks)), 2)
    return found


def grain(images: np.ndarray) -> np.ndarray:
    """Amount of finest detail of images (n, H, W) in [0, 1] in squares, (n, H / 16, W / 16), in doublings.

    Standard deviation of what a blur of 1 pixel takes off.
    """
    fine = images - gaussian_filter(images, (0, 1, 1))
    power = reduce(fine**2, "n (i y) (j x) -> n i j", "mean", y=SQUARE, x=SQUARE)
    return np.log2(np.sqrt(power) + ROUNDING)


def grain_of_first(misplaced: list[np.ndarray], records: list[Record]) -> dict[str, MetricResult]:
    """The last decoder's mean, and its paired difference from the first's, with intervals over patients."""
    people = np.array([f"{r.dataset}/{r.patient}" for r in records])
    name = "misplaced grain"
    return {
        name: grouped_mean(name, misplaced[-1], people, "lower"),
        f"{name} over first": paired_difference(name, misplaced[-1], misplaced[0], people, "lower"),
    }


def patients_of(datasets: Sequence[str], split: str, args: argparse.Namespace) -> list[Record]:
    """One radiograph of each of n patients of a split."""
    found = load_records(datasets, args.data, splits=[split])
    first = list({(r.dataset, r.patient): r for r in reversed(found)}.values())[::-1]
    return random.Random(args.seed).sample(first, min(args.n, len(first)))


def sampled(records: list[Record], args: argparse.Namespace) -> Tensor:
    """The model's scaled latents (n, c, h, w) of the records' label rows, kept in `-o DIR` for the next command."""
    prompts = [record_prompt(r) for r in records]
    asked = f"{weight_hashes(model_folder(args.model))} {prompts} {args.steps} {args.seed}"
    kept = args.output / f"latents-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.safetensors"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        latents = _sample(prompts, args)
        with atomic_path(kept) as temporary:
            save_file({"latents": latents}, temporary)
    return load_file(kept)["latents"]


def _sample(prompts: list[str], args: argparse.Namespace) -> Tensor:
    half = fast_bfloat16(torch.device("cpu"))
    pipeline = TextToImagePipeline.load(args.model, dtype=torch.bfloat16 if half else torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    parts = []
    for start in track(range(0, len(prompts), BATCH), "sampling"):
        part = prompts[start : start + BATCH]
        seeds = [args.seed + start + i for i in range(len(part))]
        parts.append(pipeline(part, seeds=seeds, num_inference_steps=args.steps, output_type="latent").images)
    return torch.cat(parts).float()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/decoders"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--decoder", nargs="+", required=True, help="folders of decoders")
    parser.add_argument("--n", type=int, default=192)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
