"""Does the best of several draws show more of what was asked for?

    python benchmarks/best_of.py --data DIR -o out/best-of

Draws pictures for the label rows of test adults several times and keeps, as `skiagraph generate --best-of` does, the
one of each that the shipped classifier says fits best. A probe of an ImageNet network, which chooses nothing, says how
well findings are read off these, and off single draws (the mean over all rounds), intervals over patients and rounds.
Distances are by its features; those of single draws are the first round's.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np

from held_out import squares
from machine import machine
from probes import DATASETS, REPORTING, SIDE, probe
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.chest.targets import TARGETS, targets_of
from skiagraph.data.datasets import Record, load_records
from skiagraph.data.images import read_radiograph
from skiagraph.domains.domain import load_domain
from skiagraph.engine.fit import Fit
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.evaluation import kernel_distance
from skiagraph.evaluation.classification import mean_auroc
from skiagraph.evaluation.judges import ProbeJudge
from skiagraph.evaluation.statistics import grouped_statistic
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL

FINDINGS = TARGETS[: TARGETS.index("abnormal") + 1]
FEWEST = 8
"""Patients with a finding, and without it, without which it does not count."""


def main() -> None:
    """Draw, choose, measure, print and write results.json."""
    args = _arguments()
    records = _adults(args)
    reports = [record_prompt(r) for r in records]
    rounds, fit = _draws(reports, args), Fit(load_domain("chest"), reports)
    fits = np.stack([fit(reports, images) for images in rounds])
    judge = probe(REPORTING, args.data, args.output)
    named, known = _counted(records, list(judge.models))
    real = judge.features(squares(records, SIDE, "crop"))
    drawn = np.stack([judge.features(images) for images in rounds])
    patients = np.arange(len(records))
    sets = {"real": real[None], "one draw": drawn}
    for number in range(2, args.draws + 1):
        sets[f"best of {number}"] = drawn[fits[:number].argmax(axis=0), patients][None]
    areas = {what: mean_auroc(_scores(judge, features, named), known) for what, features in sets.items()}

    rows = []
    for what, features in sets.items():
        ours, single = areas[what], areas["one draw"]
        row = {"what": what, "n": len(records)}
        row["mean AUROC"] = str(grouped_statistic("mean AUROC", ours, patients, "higher"))
        if what != "one draw":
            over = grouped_statistic("over one draw", lambda w, a=ours, b=single: a(w) - b(w), patients, "higher")
            row["over one draw"] = str(over)
        row["kernel distance"] = str(kernel_distance(real, features[0], extractor=judge.name))
        rows.append(row)
        print(*row.items(), sep="\n  ")
    settings = {k: str(v) for k, v in vars(args).items()}
    write_json(args.output / "results.json", {"settings": settings, "machine": machine(), "rows": rows})


def _adults(args: argparse.Namespace) -> list[Record]:
    found = [r for r in load_records(DATASETS, args.data, splits=["test"]) if r.is_child is False and r.labels]
    shuffled = random.Random(args.seed).sample(found, len(found))
    return list({(r.dataset, r.patient): r for r in shuffled}.values())[: args.n]


def _draws(reports: list[str], args: argparse.Namespace) -> np.ndarray:
    """Pictures (rounds, reports, H, W), each of its own seed."""
    config = GenerateConfig(
        reports=tuple(reports), model=args.model, count=args.draws, seed=args.seed, steps=args.steps, dtype=args.dtype,
        batch_size=16,
    )  # fmt: skip
    folder = args.output / "images"
    rows = generate(config, folder)["images"]
    images = np.stack([read_radiograph(folder / row["file"]).pixels for row in rows])
    return images.reshape(len(reports), args.draws, *images.shape[1:]).swapaxes(0, 1)


def _counted(records: list[Record], judged: list[str]) -> tuple[list[str], np.ndarray]:
    """Findings that enough of the patients have and lack, and their values (n, findings), NaN where not known."""
    values = np.array([targets_of(r) for r in records])
    least = np.minimum((values == 1).sum(axis=0), (values == 0).sum(axis=0))
    named = [name for name in FINDINGS if name in judged and least[TARGETS.index(name)] >= FEWEST]
    return named, values[:, [TARGETS.index(name) for name in named]]


def _scores(judge: ProbeJudge, features: np.ndarray, named: list[str]) -> np.ndarray:
    """Probabilities (rounds, patients, findings) of features (rounds, patients, d)."""
    return np.stack([[judge.models[name].predict_proba(f)[:, 1] for name in named] for f in features]).swapaxes(1, 2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/best-of"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--n", type=int, default=144)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
