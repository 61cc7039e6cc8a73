"""What do the judges that report know of each finding? AUROC on real test radiographs of adults, a patient once.

    python benchmarks/judge_findings.py --data DIR -o out/judges

Where a judge does not tell a finding in real radiographs, its opinion of an edited one says little. The features of
the probe's training images are kept in `-o`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from held_out import one_per_patient, squares
from machine import machine
from probes import SIDE, label_aurocs, reporting_judges
from skiagraph.data.chest.labels import LABELS
from skiagraph.data.datasets import load_records
from skiagraph.files import write_json

DATASETS = ("nih_chestxray14", "nih_chestxray14_more")
LEAST = 8
"""Patients with a finding, so that its AUROC says something."""


def main() -> None:
    """Print a row for each finding and write results.json."""
    args = _arguments()
    records = one_per_patient(load_records(DATASETS, args.data, splits=["test"]), args.seed)
    images = squares(records, SIDE, "crop")
    judges = reporting_judges(args.data, args.output)
    found = {judge.name: label_aurocs(records, judge(images), LEAST) for judge in judges}
    rows = []
    for finding in LABELS:
        told = {name: of_judge[finding].shown(2) for name, of_judge in found.items() if finding in of_judge}
        if told:
            rows.append({"finding": finding, "with": sum(finding in r.labels for r in records), **told})
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
