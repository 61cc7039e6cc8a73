"""Our dense CRF beside pydensecrf2: do the masks agree, and which is faster?

    pip install pydensecrf2==1.1   # needs a C++ compiler
    python benchmarks/crf_speed.py --data DIR -o out/crf

Both get the same noisy coarse map of a real mask and the same picture, 512 px: chest radiographs with drawn lung masks
as grey pictures (the peer sees three equal channels, so its intensity width is ours times sqrt 3), and polyp frames in
colour. Calls alternate, after one warm-up of each; both run on one thread.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pydensecrf.densecrf as peer
from PIL import Image
from scipy import ndimage

from machine import machine
from skiagraph.data.datasets import data_root, load_records
from skiagraph.evaluation.result import bootstrap
from skiagraph.files import write_json
from skiagraph.masks.crf import dense_crf, unary_from_probabilities

SIDE, SXY, SCHAN, COMPAT = 512, 60.0, 10.0, 9.0


def main() -> None:
    """Compare on every case, print the table and write results.json."""
    args = _arguments()
    rows = {
        "chest X-rays, grey": _compare(_radiographs(args), colour=False),
        "polyp frames, colour": _compare(_polyps(args), colour=True),
    }
    for name, row in rows.items():
        print(
            f"{name}: mask IoU with pydensecrf2 {row['iou']:.4f} ({row['iou_low']:.4f} to {row['iou_high']:.4f}), "
            f"lowest {row['iou_min']:.4f}; time over its time {row['ratio']:.2f} ({row['ratio_low']:.2f} to "
            f"{row['ratio_high']:.2f}); n = {row['n']}"
        )
    write_json(args.output / "results.json", {"side": SIDE, "machine": machine(), "rows": rows})


def _compare(cases: list[tuple[np.ndarray, np.ndarray]], *, colour: bool) -> dict:
    overlaps, ratios = [], []
    for number, (image, mask) in enumerate([cases[0], *cases]):
        unary = _unary(mask, number)
        ours, our_time = _timed(_ours, image, unary, colour)
        theirs, their_time = _timed(_theirs, image, unary, colour)
        if number:
            overlaps.append((ours & theirs).sum() / (ours | theirs).sum())
            ratios.append(our_time / their_time)
    iou, ratio = np.array(overlaps), np.array(ratios)
    (iou_low, iou_high), (low, high) = bootstrap(np.mean, iou), bootstrap(np.median, ratio)
    return {
        "n": len(cases), "iou": float(iou.mean()), "iou_low": iou_low, "iou_high": iou_high,
        "iou_min": float(iou.min()), "ratio": float(np.median(ratio)), "ratio_low": low, "ratio_high": high,
    }  # fmt: skip


def _ours(image: np.ndarray, unary: np.ndarray, colour: bool) -> np.ndarray:
    q = dense_crf(unary, image, bilateral_sxy=SXY, bilateral_schan=SCHAN, bilateral_compat=COMPAT)
    return q[1] > q[0]


def _theirs(image: np.ndarray, unary: np.ndarray, colour: bool) -> np.ndarray:
    crf = peer.DenseCRF2D(image.shape[1], image.shape[0], 2)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(2, -1)))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    picture = np.ascontiguousarray(image if colour else np.repeat(image[..., None], 3, axis=-1))
    crf.addPairwiseBilateral(sxy=SXY, srgb=SCHAN if colour else SCHAN * 3**0.5, rgbim=picture, compat=COMPAT)
    q = np.array(crf.inference(10)).reshape(2, *image.shape[:2])
    return q[1] > q[0]


def _timed(run, *inputs) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    result = run(*inputs)
    return result, time.perf_counter() - start


def _unary(mask: np.ndarray, seed: int) -> np.ndarray:
    """What attention would give of a mask: 32x32 cells, blurred, noisy, resized."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(mask.astype(float), SIDE / 32)[:: SIDE // 32, :: SIDE // 32]
    coarse = (coarse + rng.normal(0, 0.1, coarse.shape)).clip(0.05, 0.95)
    probability = np.asarray(Image.fromarray(coarse.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    probability = probability.clip(0.02, 0.98)
    return unary_from_probabilities(np.stack([1 - probability, probability]))


def _radiographs(args: argparse.Namespace) -> list[tuple[np.ndarray, np.ndarray]]:
    records = [
        r
        for r in load_records(["kermany_pneumonia", "covid_chestxray_ccby"], args.data, splits=["test"])
        if r.mask_trusted
    ]
    chosen = records[:: max(1, len(records) // args.n)][: args.n]
    return [(_resized(r.path, "L"), _resized(r.mask, "L") > 127) for r in chosen]


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
