"""Our dense CRF beside pydensecrf2: do the masks agree, and which is faster?

    pip install pydensecrf2==1.1   # needs a C++ compiler
    python benchmarks/crf_speed.py --data DIR -o out/crf

Both get the same coarse, slightly noisy map of a mask and the same picture, 512 px: NIH chest radiographs in grey, with
masks of the shipped lung segmenter (the peer sees three equal channels), and polyp frames in colour with drawn masks.
Calls alternate, after one warm-up of each; both run on one thread (processor time counts),
and kernels are built in every call. Beside that,
both are compared with the exact kernels, pixel by pixel, on pictures small enough for that.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pydensecrf.densecrf as peer
import torch
from PIL import Image
from scipy import ndimage
from scipy.spatial import distance
from scipy.special import softmax

from machine import machine
from skiagraph.data.datasets import data_root, load_records
from skiagraph.evaluation.result import bootstrap
from skiagraph.files import write_json
from skiagraph.masks.crf import dense_crf, unary_from_probabilities
from skiagraph.models.registry import load_component
from skiagraph.training.images import to_model_range

SIDE, SMALL_SIDE, SXY, SCHAN, COMPAT, ITERATIONS = 512, 64, 60.0, 10.0, 9.0, 10


def main() -> None:
    """Compare on every case, print the table and write results.json."""
    args = _arguments()
    rows = {}
    for name, cases in (("chest X-rays, grey", _radiographs(args)), ("polyp frames, colour", _polyps(args))):
        row = rows[name] = _compare(cases) | _nearness(cases[:8])
        print(
            f"{name}: mask IoU with pydensecrf2 {row['iou']:.4f} ({row['iou_low']:.4f} to {row['iou_high']:.4f}), "
            f"lowest {row['iou_min']:.4f}, n = {row['n']} ({row['empty']} more empty in both); time over its time "
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}), {1000 * row['seconds']:.0f} ms; "
            f"at {SMALL_SIDE} px, IoU with the exact kernels: ours {row['exact_ours']:.3f}, its {row['exact_peer']:.3f}"
        )
    write_json(args.output / "results.json", {"side": SIDE, "machine": machine(), "rows": rows})


def _compare(cases: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    overlaps, ratios, times = [], [], []
    for number, (image, mask) in enumerate([cases[0], *cases]):
        unary = _unary(mask, number)
        ours, our_time = _timed(_ours, image, unary)
        theirs, their_time = _timed(_theirs, image, unary)
        if number:
            overlaps.append(_iou(ours, theirs))
            ratios.append(our_time / their_time)
            times.append(our_time)
    iou, ratio = np.array(overlaps), np.array(ratios)
    iou = iou[~np.isnan(iou)]
    (iou_low, iou_high), (low, high) = bootstrap(np.mean, iou), bootstrap(np.median, ratio)
    return {
        "n": len(iou), "empty": len(cases) - len(iou), "iou": float(iou.mean()), "iou_low": iou_low,
        "iou_high": iou_high, "iou_min": float(iou.min()), "ratio": float(np.median(ratio)), "ratio_low": low,
        "ratio_high": high, "seconds": float(np.median(times)),
    }  # fmt: skip


def _nearness(cases: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """Mean IoU of both with masks from the full pixel-by-pixel kernels."""
    found = []
    for number, (image, mask) in enumerate(cases):
        image = np.array(Image.fromarray(image).resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX))
        unary = _unary(mask, number)[:, :: SIDE // SMALL_SIDE, :: SIDE // SMALL_SIDE]
        exact = _exact(image, unary)
        found.append([_iou(way(image, unary, SXY * SMALL_SIDE / SIDE), exact) for way in (_ours, _theirs)])
    return dict(zip(("exact_ours", "exact_peer"), np.nanmean(found, axis=0).tolist(), strict=True))


def _exact(image: np.ndarray, unary: np.ndarray) -> np.ndarray:
    place = np.indices(image.shape[:2]).reshape(2, -1)
    colour = np.broadcast_to(np.atleast_3d(image), (*image.shape[:2], 3)).reshape(-1, 3).T.astype(float)
    kernels = []
    for features in (place / 3, np.concatenate([place / (SXY * SMALL_SIDE / SIDE), colour / SCHAN])):
        kernel = np.exp(-0.5 * distance.squareform(distance.pdist(features.T, "sqeuclidean")))
        scale = 1 / np.sqrt(kernel.sum(axis=1))
        kernels.append(scale[:, None] * kernel * scale)
    evidence = -unary.reshape(2, -1)
    q = softmax(evidence, axis=0)
    for _ in range(ITERATIONS):
        q = softmax(evidence + 3 * q @ kernels[0] + COMPAT * q @ kernels[1], axis=0)
    return (q[1] > q[0]).reshape(image.shape[:2])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = (a | b).sum()
    return (a & b).sum() / union if union else np.nan


def _ours(image: np.ndarray, unary: np.ndarray, sxy: float = SXY) -> np.ndarray:
    q = dense_crf(unary, image, bilateral_sxy=sxy, bilateral_schan=SCHAN, bilateral_compat=COMPAT)
    return q[1] > q[0]


def _theirs(image: np.ndarray, unary: np.ndarray, sxy: float = SXY) -> np.ndarray:
    crf = peer.DenseCRF2D(image.shape[1], image.shape[0], 2)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(2, -1)))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    picture = np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image
    crf.addPairwiseBilateral(sxy=sxy, srgb=SCHAN, rgbim=picture, compat=COMPAT)
    q = np.array(crf.inference(ITERATIONS)).reshape(2, *image.shape[:2])
    return q[1] > q[0]


def _timed(run, *inputs) -> tuple[np.ndarray, float]:
    start = time.process_time()
    result = run(*inputs)
    return result, time.process_time() - start


def _unary(mask: np.ndarray, seed: int) -> np.ndarray:
    """What attention would give of a mask: 32x32 cells, blurred, slightly noisy, resized."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(mask.astype(float), SIDE / 32)[:: SIDE // 32, :: SIDE // 32]
    coarse = (coarse + rng.normal(0, 0.03, coarse.shape)).clip(0.05, 0.95)
    probability = np.asarray(Image.fromarray(coarse.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    probability = probability.clip(0.02, 0.98)
    return unary_from_probabilities(np.stack([1 - probability, probability]))


def _radiographs(args: argparse.Namespace) -> list[tuple[np.ndarray, np.ndarray]]:
    segmenter = load_component("lung-segmenter").eval()
    records = load_records(["nih_chestxray14"], args.data, splits=["test"])
    images = [_resized(r.path, "L") for r in records[:: max(1, len(records) // args.n)][: args.n]]
    return [(i, segmenter.segment(to_model_range(torch.from_numpy(i)[None, None]))[0].numpy() > 0) for i in images]


def _polyps(args: argparse.Namespace) -> list[tuple[np.ndarray, np.ndarray]]:
    folder = data_root(args.data) / "cvc_clinicdb"
    images = sorted((folder / "images").iterdir())
    chosen = images[:: max(1, len(images) // args.n)][: args.n]
    masks = {p.stem: p for p in (folder / "masks").iterdir()}
    return [(_resized(p, "RGB"), _resized(masks[p.stem], "L") > 127) for p in chosen]


def _resized(path: Path, mode: str) -> np.ndarray:
    return np.array(Image.open(path).convert(mode).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/crf"))
    parser.add_argument("--n", type=int, default=40, help="cases of each kind")
    return parser.parse_args()


if __name__ == "__main__":
    main()
