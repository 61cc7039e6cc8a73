"""Tables 1 and 2 of arXiv 2603.04130 on real held-out radiographs: ways of editing, and our parts taken away in turn.

    python benchmarks/edit_table.py --data DIR -o out/edit-table --n 200 [--folder ProgEmu=DIR] [--instruction FOLDER]

Test patients' radiographs get a finding they do not show, or lose one they show (`edit_cases.py`). Every edit is kept
in `-o`, so the same command goes on where it stopped. `--folder` adds a row of pictures made elsewhere, under the same
file names (`cases.json` lists them with prompts); `--instruction` one of an InstructPix2Pix-type model. The judges
that give Conf never guide an edit; defaults were chosen by another on other patients.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from edit_cases import Case, Prepared, prepared
from edit_metrics import Judge
from machine import machine
from skiagraph.data.images import SYNTHETIC_TEXT, write_png
from skiagraph.engine.manifest import open_manifest, save_manifest
from skiagraph.evaluation import MetricResult
from skiagraph.evaluation.statistics import paired_difference
from skiagraph.files import atomic_path, weight_hashes, write_json
from skiagraph.models.registry import DEFAULT_MODEL, model_folder
from skiagraph.pipelines.baselines import (
    blended_inpainting,
    instruction_edit,
    load_instruction_pipeline,
    outside_result,
    pie,
)
from skiagraph.pipelines.counterfactual import Edit, EditSettings, edit_image
from skiagraph.pipelines.paste import with_change
from skiagraph.pipelines.text_to_image import TextToImagePipeline

ABLATIONS = {
    "full": {}, "without Eq. 5": {"floor": 1.0}, "without Eq. 6": {"eta": 0.0}, "without Eq. 9": {"alpha": 0.0},
    "without all three": {"floor": 1.0, "eta": 0.0, "alpha": 0.0}, "noise start": {"start": "noise"},
    "strength 0.6": {"clearing": 0.6}, "guidance 7.5": {"guidance": 7.5},
    "not levelled": {"levelled": False}, "whole change": {"one_way": False, "levelled": False},
}  # fmt: skip
"""Rows of our own method: the defaults with these settings."""

DENSER = 0.1
"""Of the control `_denser`: about the mean change of the other rows."""

Editor = Callable[[Case, Prepared], Edit]


def main() -> None:
    """Edit, measure, print the table and write it as JSON and Markdown."""
    args = _arguments()
    torch.manual_seed(0)
    config = {k: str(v) for k, v in vars(args).items() if k in ("model", "n", "steps", "dtype", "seed")}
    manifest = open_manifest(args.output, "edit-table", config, weights=weight_hashes(model_folder(args.model)))
    save_manifest(args.output, manifest)
    pipeline = TextToImagePipeline.load(args.model, dtype=getattr(torch, args.dtype))
    known = prepared("test", args.n, args.data, pipeline.image_side)
    listed = [{"file": c.name, "image": c.record.key, "to": p.target, "from": p.source} for c, p in known]
    write_json(args.output / "cases.json", listed)
    judge = Judge(known, args.data, pipeline.image_side, args.encoder, args.output)
    rows = {"unedited": judge(np.stack([_eight_bit(p.image) for _, p in known]))}
    for name, editor in _editors(pipeline, args).items():
        pictures = _edited(name, editor, known, args.output)
        rows[name] = judge(pictures)
        rows[name] |= _gains(rows[name], rows["full"], known)
        _write(args.output, rows, [case for case, _ in known], args)
    print((args.output / "table.md").read_text())


def _editors(pipeline: TextToImagePipeline, args: argparse.Namespace) -> dict[str, Editor]:
    settings = EditSettings() if args.steps is None else replace(EditSettings(), steps=args.steps)

    def ours(function: Callable, settings: EditSettings, model: object = pipeline) -> Editor:
        def edited(case: Case, given: Prepared) -> Edit:
            chosen = settings if case.added else settings.to_clear()
            return function(model, given.image, **given.arguments(function), settings=chosen, seed=args.seed)

        return edited

    editors = {name: ours(edit_image, replace(settings, **changes)) for name, changes in ABLATIONS.items()}
    editors |= {"blended inpainting": ours(blended_inpainting, settings), "PIE": ours(pie, settings)}
    editors["region denser or clearer"] = _denser
    if args.instruction:
        editors["instruction"] = ours(instruction_edit, settings, load_instruction_pipeline(args.instruction))
    for name, folder in args.folder:
        editors[name] = partial(_from_folder, Path(folder))
    return {name: editor for name, editor in editors.items() if not args.only or name in ("full", *args.only)}


def _denser(case: Case, given: Prepared) -> Edit:
    """A control without any knowledge: the region made denser, or clearer where a finding is to go."""
    change = np.full(given.image.shape, DENSER if case.added else -DENSER, np.float32)
    return Edit(with_change(given.image, change, given.roi, EditSettings().feather), change)


def _from_folder(folder: Path, case: Case, given: Prepared) -> Edit:
    return outside_result(folder / case.name, given.image)


def _edited(name: str, editor: Editor, known: list[tuple[Case, Prepared]], output: Path) -> np.ndarray:
    """Pictures float32 (n, H, W) of one way of editing, made where an earlier run did not."""
    folder = output / name.replace(" ", "-").replace(".", "")
    for case, given in track(known, name):
        if not (folder / case.name).is_file():
            began = time.perf_counter()
            made = editor(case, given).image
            text = {**SYNTHETIC_TEXT, "Seconds": f"{time.perf_counter() - began:.2f}", "Method": name}
            write_png(folder / case.name, made, text=text)
    return np.stack([np.asarray(Image.open(folder / c.name), np.float32) / 255 for c, _ in known])


def _gains(
    row: dict[str, MetricResult], full: dict[str, MetricResult], known: list[tuple[Case, Prepared]]
) -> dict[str, MetricResult]:
    """Paired differences of every judge's Conf from the full method's, for additions and removals apart."""
    added = np.array([case.added for case, _ in known])
    patients = np.array([f"{case.record.dataset}/{case.record.patient}" for case, _ in known])
    gains = {}
    for name in [n for n in row if n.startswith("Conf, ")]:
        chosen = added if name.startswith("Conf, added") else ~added
        ours, own = (np.array(r[name].details["values"]) for r in (row, full))
        gains[f"{name} over full's"] = paired_difference(name, ours, own, patients[chosen], "higher")
    return gains


def _eight_bit(image: np.ndarray) -> np.ndarray:
    return (np.round(image * 255) / 255).astype(np.float32)


def _by_finding(result: MetricResult, before: MetricResult, listed: list[Case]) -> dict[str, dict[str, Any]]:
    """Mean Conf of every kind of case, their number, and how much more than before the edit that is."""
    kinds: dict[str, list[int]] = {}
    for index, case in enumerate(listed):
        kinds.setdefault(f"{'add' if case.added else 'remove'} {case.finding}, {case.record.dataset}", []).append(index)
    patients = np.array([case.record.patient for case in listed])
    now, was = (np.array(r.details["values"]) for r in (result, before))
    return {
        kind: {
            "Conf": float(now[i].mean()), "n": len(i),
            "gain": paired_difference("Conf", now[i], was[i], patients[i], "higher").to_dict()
            if len(set(patients[i])) > 1 else None,
        }
        for kind, i in sorted(kinds.items())
    }  # fmt: skip


def _write(
    output: Path, rows: dict[str, dict[str, MetricResult]], listed: list[Case], args: argparse.Namespace
) -> None:
    before = rows["unedited"]
    by_finding = {
        conf: {row: _by_finding(results[conf], before[conf], listed) for row, results in rows.items()}
        for conf in before
        if conf.startswith("Conf [")
    }
    found = {row: {m: r.to_dict() | {"details": {}} for m, r in results.items()} for row, results in rows.items()}
    settings = {k: str(v) for k, v in vars(args).items()}
    write_json(
        output / "results.json",
        {"n": len(listed), "machine": machine(), "settings": settings, "rows": found, "by finding": by_finding},
    )
    names = list(dict.fromkeys(m for results in rows.values() for m in results))
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for row, results in rows.items():
        cells = [results[m].shown(3) if m in results else "" for m in names]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    with atomic_path(output / "table.md") as temporary:
        temporary.write_text("\n".join(lines) + f"\n\nn = {len(listed)}\n", encoding="utf-8")


def _named_folder(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not folder or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR with a folder that exists")
    return name, folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/edit-table"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--steps", type=int, help="of all ways of editing; default: EditSettings'")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="rows beside full; all where absent")
    parser.add_argument("--encoder", help="local transformers CLIP folder for CLIP-I; default: the ImageNet extractor")
    parser.add_argument("--instruction", help="local diffusers folder of an InstructPix2Pix-type model")
    parser.add_argument("--folder", type=_named_folder, action="append", default=[], metavar="NAME=DIR")
    return parser.parse_args()


if __name__ == "__main__":
    main()
