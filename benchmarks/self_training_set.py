"""A data set of a segmenter's own masks: radiographs that nobody drew on, with the masks that its checks let pass.

    python benchmarks/self_training_set.py nih_chestxray14 --model runs/first/model -o runs/own-masks

Training patients only. `skiagraph train` takes the folder by its path. Flagged masks are left out, and so are the
least agreed-upon ones, `--drop` of what remains.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from skiagraph.data.datasets import load_records, write_folder
from skiagraph.engine.segment import SegmentConfig, segment


def main() -> None:
    """Segment, choose, and write `metadata.csv` beside the masks."""
    args = _arguments()
    records = {str(r.path.resolve()): r for r in load_records(args.datasets, args.data, splits=["train"])}
    config = SegmentConfig(inputs=tuple(records), model=args.model, batch_size=16)
    rows = [row for row in segment(config, args.output)["images"] if not row["flag"]]
    rows = sorted(rows, key=lambda row: -row["agreement"])[: round(len(rows) * (1 - args.drop))]
    chosen = [(records[row["source"]], row["mask"]) for row in rows]
    write_folder(
        args.output,
        ({"file": r.path.resolve(), "patient": r.patient, "split": "train", "mask": mask} for r, mask in chosen),
    )
    print(f"{len(chosen)} of {len(records)} radiographs, of {len({r.patient for r, _ in chosen})} patients")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", help="names of data sets")
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("--model", required=True)
    parser.add_argument("--drop", type=float, default=0.1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
