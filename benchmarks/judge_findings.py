"""What do the judges that report know of each finding? AUROC on real test radiographs of adults, a patient once.

    python benchmarks/judge_findings.py --data DIR -o out/judges

Where a judge does not tell a finding in real radiographs, its opinion of an edited one says little. The features of
the probe's training images are kept in `-o`.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np

from held_out import squares
from machine import machine
from probes import SIDE, reporting_judges
from skiagraph.data.chest.labels import LABELS
from skiagraph.data.chest.targets import TARGETS, targets_of
from skiagraph.data.datasets import load_records
from skiagraph.evaluation.classification import auroc
from skiagraph.files import write_json

DATASETS = ("nih_chestxray14", "nih_chestxray14_more")
LEAST = 8
"""Patients with a finding, so that its AUROC says something."""


def main() -> None:
    """Print a row for each finding and write results.json."""
    args = _arguments()
    records = load_records(DATASETS, args.data, splits=["test"])
    records = list({r.patient: r for r in random.Random(args.seed).sample(records, len(records))}.values())
    images = squares(records, SIDE, "crop")
    targets = np.array([targets_of(r) for r in records])
    scores = {judge.name: judge(images) for judge in reporting_judges(args.data, args.output)}
    rows = []
    for index, finding in enumerate(TARGETS):
        known = ~np.isnan(targets[:, index])
        truth = targets[known, index].astype(int)
        if finding in LABELS and truth.sum() >= LEAST:
            found = {name: auroc(truth, score[finding][known]) for name, score in scores.items()}
            told = {name: f"{a.value:.2f} ({a.low:.2f} to {a.high:.2f})" for name, a in found.items()}
            rows.append({"finding": finding, "with": int(truth.sum()), **told})
            print(*(str(value) for value in rows[-1].values()), sep=" | ", flush=True)
    write_json(args.output / "results.json", {"n": len(records), "machine": machine(), "rows": rows})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/judges"))
    parser.add_argument("--seed", type=int, default=0, help="of the radiograph of each patient")
    return parser.parse_args()


if __name__ == "__main__":
    main()
