"""Masks of lungs by `skiagraph segment` beside drawn ones, patients of other hospitals among them, and its flags.

    python benchmarks/lung_masks.py --whole lung-segmenter OLD --fields lung-field-segmenter OLD -o out/lung-masks

Masks of children (Kermany) and of the CC BY collection count the lung behind heart and diaphragm: `--whole` models are
tested on them. Montgomery's and Shenzhen's leave it out, for `--fields`. Measures are of both lungs together at each
picture's own size; differences are to the first model of each kind, paired by patient. A good flag marks the masks
of a Dice below 0.85 and no others; the AUROC says how well agreement tells them at any bound. Runs are kept in `-o`;
the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from machine import machine
from skiagraph.data.datasets import Record, load_records, masked
from skiagraph.engine.segment import SegmentConfig, segment
from skiagraph.evaluation import auroc, dice, hd95
from skiagraph.evaluation.statistics import grouped_mean, paired_difference
from skiagraph.files import write_json
from skiagraph.pipelines.mask_checks import GOOD

WHOLE = {"children, same source": "kermany_pneumonia", "adults, another hospital": "covid_chestxray_ccby"}
FIELDS = {"adults, same source": "montgomery", "adults, another country": "shenzhen"}
LOW_IOU = 0.8


class Cases(NamedTuple):
    """What a model said of a data set: one value for each radiograph."""

    dice: np.ndarray
    distance: np.ndarray
    flagged: np.ndarray
    agreement: np.ndarray
    patients: np.ndarray


def main() -> None:
    """Segment, measure, print the table and write it as JSON."""
    args = _arguments()
    lines, found = [], []
    for models, sets in ((args.whole, WHOLE), (args.fields, FIELDS)):
        for kind, dataset in ((k, d) for k, d in sets.items() if d in args.sets):
            records = masked(load_records([dataset], args.data, splits=["test"]))
            measured = {model: _measured(model, records, args.output / Path(model).name / dataset) for model in models}
            for model, cases in measured.items():
                row = _row(cases, measured[models[0]])
                found.append({"model": model, "tested on": kind, "n": len(records), **row})
                lines.append(f"| `{Path(model).name}` | {kind} | {len(records)} | " + " | ".join(row.values()) + " |")
    write_json(args.output / "results.json", {"machine": machine(), "rows": found})
    names = list(found[0])
    print("\n".join([f"| {' | '.join(names)} |", "| --- | --- |" + " ---: |" * (len(names) - 2), *lines]))


def _measured(model: str, records: list[Record], output: Path) -> Cases:
    config = SegmentConfig(inputs=tuple(str(r.path) for r in records), model=model, batch_size=16)
    rows = {row["source"]: row for row in segment(config, output)["images"]}
    kept = [rows[str(r.path.resolve())] for r in records]
    pairs = [(_mask(output / row["mask"]), _mask(r.mask)) for row, r in zip(kept, records, strict=True)]
    return Cases(
        np.array([dice(a[None], b[None]).value for a, b in pairs]),
        np.array([hd95(a[None], b[None]).value / max(a.shape) * 256 for a, b in pairs]),
        np.array([bool(row["flag"]) for row in kept]),
        np.array([row["agreement"] for row in kept]),
        np.array([r.patient for r in records]),
    )


def _mask(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L")) > 0


def _row(cases: Cases, first: Cases) -> dict[str, str]:
    mean = grouped_mean("Dice", cases.dice, cases.patients, "higher")
    row = {
        "Dice": mean.shown(3),
        "over the first's": "",
        "HD95": f"{cases.distance.mean():.1f}",
        f"IoU under {LOW_IOU}": f"{(cases.dice / (2 - cases.dice) < LOW_IOU).mean():.3f}",
        f"Dice under {GOOD}": str(int((cases.dice < GOOD).sum())),
        "flagged of those": str(int(cases.flagged[cases.dice < GOOD].sum())),
        "flagged of the others": f"{cases.flagged[cases.dice >= GOOD].mean():.3f}",
        "AUROC of agreement": "",
    }
    if (cases.dice < GOOD).any():
        told = auroc(cases.dice < GOOD, -cases.agreement)
        row["AUROC of agreement"] = told.shown(2)
    if cases is not first:
        gain = paired_difference("Dice", cases.dice, first.dice, cases.patients, "higher")
        row["over the first's"] = gain.shown(3)
    return row


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", nargs="+", default=["lung-segmenter"])
    parser.add_argument("--fields", nargs="+", default=["lung-field-segmenter"])
    known = [*WHOLE.values(), *FIELDS.values()]
    parser.add_argument("--sets", nargs="+", default=known, choices=known, help="data sets to test on")
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/lung-masks"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
