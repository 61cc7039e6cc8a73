"""Which settings of `EditSettings` should be the defaults? One row per setting, on validation radiographs.

    python benchmarks/edit_settings.py --data DIR -o out/edit-settings --n 16
    python benchmarks/edit_settings.py --data DIR -o out/edit-settings --try strength=0.8 guidance=7.5 start=noise
    python benchmarks/edit_settings.py --data DIR -o out/edit-settings-pie --method PIE --try --try guidance=10

Each `--try` is one row: the defaults of additions with these values, for all cases. Edits are kept in `-o`, so that a
row is made once; a sheet of pictures stands beside each. Rows after the first are compared with it on the same cases,
over patients; `--only` takes cases that get a finding, or that lose one. The judge is a probe that reports nothing
elsewhere, and test patients are never used.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from edit_cases import Case, Prepared, prepared
from edit_metrics import burnt
from machine import machine
from probes import TUNING, probe
from skiagraph.data.images import SYNTHETIC_TEXT, write_png
from skiagraph.engine.contact_sheet import write_contact_sheet
from skiagraph.engine.manifest import config_hash
from skiagraph.evaluation import bootstrap, ssim
from skiagraph.evaluation.judges import Judge
from skiagraph.evaluation.statistics import paired_difference
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL
from skiagraph.pipelines.baselines import blended_inpainting, pie
from skiagraph.pipelines.counterfactual import EditSettings, edit_image
from skiagraph.pipelines.text_to_image import TextToImagePipeline

SEED = 0
METHODS = {"full": edit_image, "blended inpainting": blended_inpainting, "PIE": pie}
"""What can be tuned: our method and, with the same budget, those that it is compared with."""


def main() -> None:
    """Edit with every setting, print a row each, write results.json."""
    args = _arguments()
    pipeline = TextToImagePipeline.load(args.model, dtype=getattr(torch, args.dtype))
    judge = probe(TUNING, args.data, args.output)
    known = _chosen(prepared("val", 2 * args.n if args.only else args.n, args.data, pipeline.image_side), args.only)
    rows, first = [], None
    for changes in args.tries or [[]]:
        row, towards = _row(pipeline, judge, known, changes, args)
        first = towards if first is None else first
        row |= _compared(towards, first, known)
        rows.append(row)
        print(" ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
        write_json(args.output / "results.json", {"n": len(known), "machine": machine(), "rows": rows})


def _chosen(known: list[tuple[Case, Prepared]], only: str | None) -> list[tuple[Case, Prepared]]:
    return [(c, p) for c, p in known if only is None or c.added == (only == "added")]


def _compared(towards: np.ndarray, first: np.ndarray, known: list[tuple[Case, Prepared]]) -> dict:
    """How much further a row goes than the first, with its interval."""
    patients = np.array([f"{c.record.dataset}/{c.record.patient}" for c, _ in known])
    found = paired_difference("towards", towards, first, patients, "higher")
    return {"over_first": found.value, "over_low": found.low, "over_high": found.high}


def _row(
    pipeline: TextToImagePipeline, judge: Judge, known: list, changes: list[str], args: argparse.Namespace
) -> tuple[dict, np.ndarray]:
    settings = replace(EditSettings(), **dict(_parsed(c) for c in changes))
    name = ",".join(changes) or "defaults"
    folder = args.output / f"{name}-{config_hash(asdict(settings))[:6]}"  # the defaults themselves may change
    moved, began, made = [], time.perf_counter(), 0
    for case, given in track(known, name, transient=True):
        if not (folder / case.name).is_file():
            editor = METHODS[args.method]
            result = editor(pipeline, given.image, **given.arguments(editor), settings=settings, seed=SEED)
            moved += result.moved
            made += 1
            write_png(folder / case.name, result.image, text=SYNTHETIC_TEXT)
    seconds = (time.perf_counter() - began) / max(1, made)
    after = np.stack([np.asarray(Image.open(folder / c.name), np.float32) / 255 for c, _ in known])
    _sheet(folder / "sheet.png", known, after)
    scores, towards = _scores(judge, known, after)
    return {"row": name, "seconds": seconds, "moved": float(np.mean(moved or [0]))} | scores, towards


def _scores(judge: Judge, known: list[tuple[Case, Prepared]], after: np.ndarray) -> tuple[dict, np.ndarray]:
    """Towards: change of the target finding's probability in the wanted direction, with its interval."""
    before = np.stack([p.image for _, p in known])
    was, now = judge(before), judge(after)
    sign = np.array([1 if c.added else -1 for c, _ in known])
    towards = sign * np.array([now[c.finding][i] - was[c.finding][i] for i, (c, _) in enumerate(known)])
    inside = [np.abs(a - p.image)[p.roi].mean() for a, (_, p) in zip(after, known, strict=True)]
    denser = np.array([(a - p.image)[p.roi].mean() for a, (_, p) in zip(after, known, strict=True)])
    low, high = bootstrap(np.mean, towards)
    kinds = {name: chosen for name, chosen in (("add", sign > 0), ("remove", sign < 0)) if chosen.any()}
    return {
        "towards": float(towards.mean()), "low": low, "high": high, "right_way": float((towards > 0).mean()),
        **{name: float(towards[chosen].mean()) for name, chosen in kinds.items()},
        "inside": float(np.mean(inside)),
        **{f"denser_{name}": float(np.mean(denser[chosen])) for name, chosen in kinds.items()},
        "burnt": float(burnt(before, after, np.stack([p.roi for _, p in known])).mean()),
        "ssim": ssim(before, after, data_range=1.0).value,
    }, towards  # fmt: skip


def _sheet(path: Path, known: list[tuple[Case, Prepared]], after: np.ndarray) -> None:
    pictures, captions = [], []
    for (case, given), edited in zip(known[:12], after, strict=False):
        pictures += [given.image, edited, (0.5 + edited - given.image).clip(0, 1)]
        captions += ["before", case.to if case.added else f"without {case.finding}", "difference x2"]
    write_contact_sheet(path, pictures, captions, columns=6)


def _parsed(change: str) -> tuple[str, object]:
    name, value = change.split("=")
    kind = type({f.name: f.default for f in fields(EditSettings)}[name])
    return name, value == "True" if kind is bool else kind(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/edit-settings"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--only", choices=("added", "removed"), help="kind of cases; both where absent")
    parser.add_argument("--method", choices=METHODS, default="full")
    parser.add_argument("--try", dest="tries", nargs="*", action="append", help="values of one row, such as eta=0")
    return parser.parse_args()


if __name__ == "__main__":
    main()
