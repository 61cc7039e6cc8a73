"""Does the best of several draws show more of what was asked for?

    python benchmarks/best_of.py --data DIR -o out/best-of

Draws pictures for the label rows of test adults several times and keeps, as `skiagraph generate --best-of` does, the
one of each that the shipped classifier says fits best. A probe of an ImageNet network, which chooses nothing, says how
well findings are read off these, and off single draws (the mean over all rounds). Distances are by its features.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from machine import machine
from probes import DATASETS, REPORTING, SIDE, probe
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.chest.targets import TARGETS, targets_of
from skiagraph.data.datasets import Record, load_records
from skiagraph.data.images import read_radiograph, square
from skiagraph.domains.domain import load_domain
from skiagraph.engine.fit import Fit
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.evaluation import kernel_distance
from skiagraph.evaluation.judges import ProbeJudge
from skiagraph.evaluation.result import bootstrap
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
    real = np.stack([square(read_radiograph(r.path).pixels, SIDE, fit="crop") for r in records])
    drawn = np.stack([_scores(judge, images, named) for images in rounds], axis=1)  # (records, rounds, findings)
    reference, features = judge.features(real), np.stack([judge.features(images) for images in rounds])

    rows = [_row("real", known, _scores(judge, real, named)[:, None], drawn, named)]
    rows.append(_row("one draw", known, drawn, drawn, named))
    rows[-1]["kernel distance"] = str(kernel_distance(reference, features[0], extractor=judge.name))
    patients = np.arange(len(records))
    for number in range(2, args.draws + 1):
        best = fits[:number].argmax(axis=0)
        row = _row(f"best of {number}", known, drawn[patients, best][:, None], drawn, named)
        row["kernel distance"] = str(kernel_distance(reference, features[best, patients], extractor=judge.name))
        rows.append(row)
    for row in rows:
        print(*row.items(), sep="\n  ")
    settings = {k: str(v) for k, v in vars(args).items()}
    write_json(args.output / "results.json", {"settings": settings, "machine": machine(), "rows": rows})


def _row(what: str, known: np.ndarray, scores: np.ndarray, drawn: np.ndarray, named: list[str]) -> dict:
    """A row of AUROCs; scores (patients, rounds, findings) are averaged over rounds after they are judged."""
    return {
        "what": what, "n": len(known),
        "AUROC": dict(zip(named, _areas(known, scores), strict=True)),
        "mean AUROC": [_mean(known, scores), *bootstrap(_mean, known, scores)],
        "over one draw": [_over(known, scores, drawn), *bootstrap(_over, known, scores, drawn)],
    }  # fmt: skip


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


def _scores(judge: ProbeJudge, images: np.ndarray, named: list[str]) -> np.ndarray:
    found = judge(images)
    return np.stack([found[name] for name in named], axis=1)


def _areas(known: np.ndarray, scores: np.ndarray) -> list[float]:
    """AUROC of each finding, a mean over rounds; NaN where all patients that are known are alike."""
    found = []
    for truth, by_round in zip(known.T, np.moveaxis(scores, -1, 0), strict=True):
        ill, well = truth == 1, truth == 0
        ranks = rankdata(by_round[ill | well], axis=0)[ill[ill | well]]
        pairs = ill.sum() * well.sum()
        found.append(float((ranks.sum(axis=0).mean() - ill.sum() * (ill.sum() + 1) / 2) / pairs) if pairs else np.nan)
    return found


def _mean(known: np.ndarray, scores: np.ndarray) -> float:
    return float(np.nanmean(_areas(known, scores)))


def _over(known: np.ndarray, scores: np.ndarray, others: np.ndarray) -> float:
    return _mean(known, scores) - _mean(known, others)


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
