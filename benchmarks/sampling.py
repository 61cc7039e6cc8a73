"""How should a picture's steps be spent, and how far should guidance lead? One row per setting, on the same patients.

    python benchmarks/sampling.py --data DIR -o out/sampling --try steps=48 --try use_beta_sigmas=1 scale=1.5
    python benchmarks/sampling.py --data DIR -o out/sampling-test --split test --n 300 --try steps=48

The first row is the model's own sampler; each `--try` is one more from the same noise, compared with it over patients:
`steps`, `scale` of guidance, and numbers and switches (1 for on) of the model's scheduler by diffusers' names. Judges
are an ImageNet network that reports nothing elsewhere, for validation patients, and those that report, for test
patients: kernel distance to the patients' radiographs, and how well their labels are read off by a probe of it.
Variety is the variance over pictures of thumbnails of 32 px, within children and within adults, over that of the
radiographs, 1 for as much: without a judge. Pictures are kept in `-o`, so that a row is made once.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.numpy import load_file, save_file

from decoders import patients_of
from held_out import squares
from machine import machine
from probes import DATASETS, REPORTING, SIDE, TUNING, probe
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.chest.targets import TARGETS, targets_of
from skiagraph.data.datasets import Record
from skiagraph.devices import fast_bfloat16
from skiagraph.engine.contact_sheet import write_contact_sheet
from skiagraph.engine.manifest import config_hash
from skiagraph.evaluation import kernel_distance, sliced_wasserstein
from skiagraph.evaluation.classification import mean_auroc
from skiagraph.evaluation.copies import thumbnails
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.evaluation.judges import ProbeJudge
from skiagraph.evaluation.statistics import Statistic, grouped_statistic
from skiagraph.files import atomic_path, weight_hashes, write_json
from skiagraph.models.registry import DEFAULT_MODEL, model_folder
from skiagraph.pipelines.text_to_image import TextToImagePipeline

BATCH = 16
SHOWN = 24
FEWEST = 8
"""Patients with a label, and without it, without which it does not count."""

OWN = {"steps": 24.0, "scale": 2.0}
"""Of the first row; the scheduler's options are the model's own."""

BY_SPLIT = {"val": (TUNING, ()), "test": (REPORTING, ("efficientnet-lite0",))}
"""The probe's network, and others that measure distances alone."""


def main() -> None:
    """Draw with every setting, print a row each, write results.json."""
    args = _arguments()
    records = patients_of(DATASETS, args.split, args)
    tried = [OWN, *({**OWN, **dict(_parsed(change) for change in changes)} for changes in args.tries)]
    real = squares(records, SIDE, "crop")
    network, others = BY_SPLIT[args.split]
    judge = probe(network, args.data, args.output)
    extractors = {judge.name: judge.features} | {e.name: e.features for e in map(ImageNetExtractor, others)}
    known = {name: features(real) for name, features in extractors.items()}
    rows: list[dict] = []
    first: dict[str, Statistic] = {}
    for settings in tried:
        pictures, seconds = _drawn(records, settings, args)
        made = {name: features(pictures) for name, features in extractors.items()}
        values = {name: _squared_mmd(known[name], made[name]) for name in made}
        values["mean AUROC"] = _mean_auroc(judge, records, made[judge.name])
        first = first or values
        row = {**settings, "seconds over first": seconds / (rows[0]["seconds"] if rows else seconds)}
        row |= {f"kernel distance [{n}]": str(kernel_distance(known[n], f, extractor=n)) for n, f in made.items()}
        row |= {f"{name}, over first": _difference(name, values[name], first[name], records) for name in values}
        row |= {"mean AUROC": float(values["mean AUROC"](np.ones(len(records)))[0])}
        row |= {r.name: round(r.value) for r in sliced_wasserstein(real, pictures)}
        for whose, group in _ages(records).items():
            row[f"variety, {whose}"] = _variety(pictures[group]) / _variety(real[group])
        rows.append(row | {"seconds": seconds})
        print(*rows[-1].items(), sep="\n  ", flush=True)
        write_contact_sheet(args.output / f"{_name(settings)}.png", pictures[:SHOWN], [""] * SHOWN, columns=6)
    of_real = float(_mean_auroc(judge, records, known[judge.name])(np.ones(len(records)))[0])
    print("mean AUROC of the radiographs", of_real)
    kept = {"n": len(records), "split": args.split, "machine": machine(), "AUROC of radiographs": of_real, "rows": rows}
    write_json(args.output / "results.json", kept)


def _drawn(records: list[Record], settings: dict[str, float], args: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Pictures (n, H, W), and seconds of one."""
    prompts = [record_prompt(r) for r in records]
    asked = {"model": weight_hashes(model_folder(args.model)), "prompts": prompts, "seed": args.seed, **settings}
    path = args.output / f"{_name(settings)}-{config_hash(asked)[:8]}.safetensors"
    if not path.is_file():
        half = fast_bfloat16(torch.device("cpu"))
        pipeline = TextToImagePipeline.load(args.model, dtype=torch.bfloat16 if half else torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        options = {name: value for name, value in settings.items() if name not in OWN}
        pipeline.scheduler = pipeline.scheduler.from_config({**pipeline.scheduler.config, **options})
        began, parts = time.perf_counter(), []
        for start in track(range(0, len(prompts), BATCH), _name(settings), transient=True):
            part = prompts[start : start + BATCH]
            seeds = [args.seed + start + i for i in range(len(part))]
            parts.append(
                pipeline(
                    part, seeds=seeds, num_inference_steps=int(settings["steps"]), guidance_scale=settings["scale"]
                ).images
            )  # fmt: skip
        seconds = (time.perf_counter() - began) / len(prompts)
        with atomic_path(path) as temporary:
            save_file({"pictures": np.concatenate(parts), "seconds": np.array(seconds)}, temporary)
    kept = load_file(path)
    return kept["pictures"], float(kept["seconds"])


def _squared_mmd(real: np.ndarray, made: np.ndarray) -> Statistic:
    """The kernel distance of features as a statistic of weighted patients, each a radiograph and its picture."""
    rr, mm, rm = (((a @ b.T) / a.shape[1] + 1) ** 3 for a, b in ((real, real), (made, made), (real, made)))

    def statistic(weights: np.ndarray) -> np.ndarray:
        pairs = np.outer(weights, weights)
        between = (pairs * rm).sum() / pairs.sum()
        np.fill_diagonal(pairs, 0)
        return np.array([(pairs * (rr + mm)).sum() / pairs.sum() - 2 * between])

    return statistic


def _mean_auroc(judge: ProbeJudge, records: list[Record], features: np.ndarray) -> Statistic:
    truth = np.array([targets_of(r) for r in records])
    least = np.minimum((truth == 1).sum(axis=0), (truth == 0).sum(axis=0))
    named = [name for name in judge.models if least[TARGETS.index(name)] >= FEWEST]
    scores = np.stack([judge.models[name].predict_proba(features)[:, 1] for name in named], axis=1)
    return mean_auroc(scores[None], truth[:, [TARGETS.index(name) for name in named]])


def _difference(name: str, ours: Statistic, other: Statistic, records: list[Record]) -> str:
    patients = np.array([f"{r.dataset}/{r.patient}" for r in records])
    better = "higher" if name == "mean AUROC" else "lower"
    return str(grouped_statistic(name, lambda weights: ours(weights) - other(weights), patients, better))


def _ages(records: list[Record]) -> dict[str, np.ndarray]:
    children = np.array([bool(r.is_child) for r in records])
    return {"children": children, "adults": ~children}


def _variety(pictures: np.ndarray) -> float:
    """Variance over pictures of thumbnails, a mean over their pixels."""
    return float(thumbnails(pictures).var(axis=0, ddof=1).mean())


def _name(settings: dict[str, float]) -> str:
    return ",".join(f"{name}={value:g}" for name, value in settings.items())


def _parsed(change: str) -> tuple[str, float]:
    name, value = change.split("=")
    return name, float(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/sampling"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--split", choices=BY_SPLIT, default="val")
    parser.add_argument("--n", type=int, default=144)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--try", dest="tries", nargs="+", action="append", default=[], help="such as steps=40 scale=1.5"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
