"""Prompts for `skiagraph pairs` and `generate`: the label rows of training patients, as many of each data set.

python benchmarks/label_prompts.py kermany_pneumonia nih_chestxray14 --n 500 -o prompts.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from skiagraph.data.datasets import write_folder
from skiagraph.domains.domain import DEFAULT, load_domain
from skiagraph.engine.picture_sets import read_set, text_of
from skiagraph.engine.study import by_patient


def main() -> None:
    """Write one column, `report`; each patient is there once before any is there twice."""
    args = _arguments()
    domain = load_domain(DEFAULT)
    records = [r for name in args.datasets for r in by_patient(read_set(f"{name}:train", domain))[: args.n]]
    rows = ({"report": text_of(record, domain)} for record in records)
    write_folder(args.output.parent, rows, ("report",), args.output.name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", help="names of data sets")
    parser.add_argument("--n", type=int, required=True, help="patients of each")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
