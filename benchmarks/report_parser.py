"""What the report parser understands, on labelled sentences of OpenI reports; no image is made.

    python benchmarks/report_parser.py --data DIR -o out/reports
    git show REVISION:src/skiagraph/data/chest/reports.py > old_parser.py
    python benchmarks/report_parser.py --data DIR -o out/before --parser old_parser.py
    python benchmarks/report_parser.py --data DIR -o out/after --names-of old_parser.py

Precision, recall and F1 per finding, for denials, doubts, normal chests and abnormal things without a name, the share
of right sides, and how many whole reports that indexers call abnormal or normal become a normal chest. Intervals are
over sentences.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from skiagraph.data.chest import reports
from skiagraph.data.datasets import data_root
from skiagraph.data.reports import Report
from skiagraph.evaluation import report_findings as rf
from skiagraph.evaluation.result import MetricResult
from skiagraph.files import write_json

LABELS = Path(__file__).parents[1] / "tests/data/openi_sentences.csv"
Parser = Callable[[str], Report]


def main() -> None:
    """Print the tables and write results.json."""
    args = _arguments()
    source = data_root(args.data) / "openi_reports/indiana_reports.csv"
    parse, names = _parser(args.parser)
    names = _parser(args.names_of)[1] if args.names_of else names
    labelled = [s for s in rf.read_labelled(args.labels, source) if s.part == args.part]
    results = {}
    for sample in ("random", "hard", "both"):
        chosen = [s for s in labelled if sample in (s.sample, "both")]
        table = _table(chosen, [parse(s.text) for s in chosen], names)
        print(f"\n{sample}: {len(chosen)} sentences")
        for row in table:
            print("  " + "; ".join(f"{m.name} {m.shown(2)}" for m in row), f"n {row[0].n}")
        results[sample] = [m.to_dict() for row in table for m in row]
    whole = [_whole(group, rows, parse) for group, rows in _reports(source).items()]
    for result in whole:
        print(result)
    write_json(
        args.output / "results.json", {"part": args.part, "sentences": results, "reports": [m.to_dict() for m in whole]}
    )


def _table(
    labelled: Sequence[rf.LabelledSentence], parsed: Sequence[Report], known: set[str]
) -> list[list[MetricResult]]:
    """Rows of precision, recall and F1, one of them for the `known` names alone; then the share of right sides."""
    named = sorted({m.name for s in labelled for m in s.mentions} | {n for r in parsed for n in r.present()})
    present = {n: rf.presence(n, labelled, parsed) for n in named}
    denied = {n: rf.denial(n, labelled, parsed) for n in named}
    groups = {
        "present, all": sum(present.values()),
        "present, of known names": sum(present[n] for n in named if n in known),
        "denied, all": sum(denied.values()),
        "doubt": rf.certainty(labelled, parsed),
        "normal chest": rf.normality(labelled, parsed),
        "abnormal without a name": rf.unnamed(labelled, parsed),
        **{f"present, {n}": c for n, c in present.items() if c.any()},
    }
    rows = [_three(name, counts) for name, counts in groups.items()]
    pairs = rf.sides(labelled, parsed)
    return [*rows, [rf.measured("right side", rf.share, pairs, int(pairs[:, 0].sum()))]]


def _three(name: str, counts: np.ndarray) -> list[MetricResult]:
    n = int(counts[:, [0, 2]].sum())
    statistics = {"precision": rf.precision, "recall": rf.recall, "F1": rf.f1}
    return [rf.measured(f"{name}: {s}", function, counts, n) for s, function in statistics.items()]


def _reports(source: Path) -> dict[str, list[str]]:
    """Texts of reports that indexers found abnormal, these without poor or unindexed ones, and of normal ones."""
    with open(source, encoding="utf-8", newline="") as stream:
        rows = [(r["MeSH"].lower(), f"{r['findings']} {r['impression']}") for r in csv.DictReader(stream)]
    rows = [(mesh, text) for mesh, text in rows if text.strip()]
    abnormal = [(mesh, text) for mesh, text in rows if mesh != "normal"]
    indexed = [t for mesh, t in abnormal if "technical quality" not in mesh and mesh != "no indexing"]
    return {
        "abnormal reports": [t for _, t in abnormal],
        "abnormal reports, indexed and of good quality": indexed,
        "normal reports": [t for mesh, t in rows if mesh == "normal"],
    }


def _whole(name: str, texts: Sequence[str], parse: Parser) -> MetricResult:
    normal = np.array([rf.reads_as_normal(parse(t)) for t in texts], float)
    pairs = np.stack([np.ones(len(normal)), normal], axis=1)
    direction = "higher" if name.startswith("normal") else "lower"
    return rf.measured(f"{name} that become a normal chest", rf.share, pairs, len(texts), direction)


def _parser(path: Path | None) -> tuple[Parser, set[str]]:
    """`parse_report` and the names of findings, of this version or of a file of another one."""
    if path is None:
        return reports.parse_report, set(reports.FINDINGS)
    spec = importlib.util.spec_from_file_location("other_parser", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["other_parser"] = module
    spec.loader.exec_module(module)
    return module.parse_report, set(module.FINDINGS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("--labels", type=Path, default=LABELS)
    parser.add_argument("--part", default="held out", choices=("held out", "test", "development"))
    parser.add_argument("--parser", type=Path, help="a file with another version's `parse_report`")
    parser.add_argument("--names-of", type=Path, help="a file with another version, to whose names one row keeps")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
