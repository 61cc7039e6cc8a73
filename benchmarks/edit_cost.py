"""What does steering cost? Time of sampling with all of Eqs. 5 to 9 beside plain sampling, in turns, in one run.

    python benchmarks/edit_cost.py -o out/edit-cost

Same latents, prompt, steps and guidance. "guided steps" leaves Eq. 9 out, whose gradient is most of the difference.
The time is the median over repeats; the interval is a bootstrap of the ratio over repeats.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from machine import machine
from skiagraph.evaluation import bootstrap
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL
from skiagraph.pipelines.counterfactual import EditSettings, edit_image
from skiagraph.pipelines.text_to_image import TextToImagePipeline

PLAIN = {"eta": 0.0, "floor": 1.0, "alpha": 0.0}
ROWS = {"plain": PLAIN, "guided steps": {"alpha": 0.0}, "everything": {}}


def main() -> None:
    """Time every row in turns, print and write results.json."""
    args = _arguments()
    pipeline = TextToImagePipeline.load(args.model, dtype=getattr(torch, args.dtype))
    side = pipeline.image_side
    image = np.random.default_rng(0).random((side, side)).astype(np.float32)
    roi, anatomy = np.zeros((2, side, side), bool)
    roi[side // 2 :, : side // 3] = anatomy[side // 4 :, : side // 2] = True
    base = replace(EditSettings(), start="noise", steps=args.steps)
    times: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(args.repeats + 1):
        for name, changes in ROWS.items():
            began = time.perf_counter()
            edit_image(
                pipeline, image, target="right lower consolidation. adult", source="adult", words=["consolidation"],
                roi=roi, anatomy=anatomy, settings=replace(base, **changes),
            )  # fmt: skip
            times[name].append(time.perf_counter() - began)
    kept = {name: np.array(values[1:]) for name, values in times.items()}  # the first round warms up
    rows = {name: _row(values, kept["plain"]) for name, values in kept.items()}
    for name, row in rows.items():
        print(f"{name:14s} {row['seconds']:.2f} s, ratio {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})")
    settings = {k: str(v) for k, v in vars(args).items()}
    write_json(args.output / "results.json", {"machine": machine(), "settings": settings, "rows": rows})


def _row(values: np.ndarray, plain: np.ndarray) -> dict[str, float]:
    def ratio(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.median(a) / np.median(b))

    low, high = bootstrap(ratio, values, plain)
    return {"seconds": float(np.median(values)), "ratio": ratio(values, plain), "low": low, "high": high}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/edit-cost"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
