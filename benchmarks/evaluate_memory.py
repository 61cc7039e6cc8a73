"""How much memory `skiagraph evaluate` takes for many pictures, and how long a picture takes.

    python benchmarks/evaluate_memory.py --n 1000 10000 100000 -o out/evaluate-memory

Each set is one data set's test radiographs at 64 px, again and again with other noise, so that no file is equal to
another. Every evaluation runs in a process of its own, whose highest resident memory is read when it ends; networks and
libraries are a part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from held_out import REAL, squares
from machine import machine
from skiagraph.data.datasets import load_records
from skiagraph.files import write_json

SIDE, NOISE = 64, 0.02


def main() -> None:
    """Write the pictures, evaluate each set and print a row for it."""
    args = _arguments()
    records = load_records([REAL], args.data, splits=["test"])[: args.real]
    images = squares(records, SIDE, "pad")
    rows = []
    for n in args.n:
        folder = args.output / f"{n}"
        _write(images, n, folder / "pictures")
        rows.append({"n": n, **_evaluated(f"{REAL}:test", folder, args.data)})
        print(json.dumps(rows[-1]), flush=True)
        write_json(args.output / "results.json", {"machine": machine(), "rows": rows})


def _write(images: np.ndarray, n: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in track(range(n), f"{n} pictures"):
        path = folder / f"{index:06d}.png"
        if not path.is_file():
            rng = np.random.default_rng(index)
            noisy = images[index % len(images)] + NOISE * rng.standard_normal((SIDE, SIDE))
            Image.fromarray((noisy.clip(0, 1) * 255).astype(np.uint8)).save(path, compress_level=1)


def _evaluated(real: str, folder: Path, data: str | None) -> dict[str, float]:
    """Highest resident memory in MiB, and seconds for each picture."""
    began = time.perf_counter()
    command = [
        sys.executable, "-m", "skiagraph", "evaluate", "--quiet", "--overwrite", "--real", real, "--extractor",
        "pixels-32", "--synthetic", str(folder / "pictures"), "-o", str(folder / "report"),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ | ({"SKIAGRAPH_DATA": data} if data else {}))
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"skiagraph evaluate failed for {folder}")
    pictures = len(list((folder / "pictures").iterdir()))
    return {"MiB": usage.ru_maxrss / 1024, "seconds each": (time.perf_counter() - began) / pictures}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/evaluate-memory"))
    parser.add_argument("--n", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--real", type=int, default=500, help="radiographs that pictures are made from")
    return parser.parse_args()


if __name__ == "__main__":
    main()
