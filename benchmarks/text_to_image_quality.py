"""How good are generated radiographs? Distances to held-out real ones, intended labels read off them, and copies.

    python benchmarks/text_to_image_quality.py --data DIR -o out/quality

Generates one image for each of n held-out patients' label rows (never seen in training), so that both sides have the
same mix of findings, views and ages. Two extractors: EfficientNet-Lite0 of ImageNet, and the shipped classifier.
The floor is real images against the same held-out ones, with the same mix of datasets and as near the same n as there
are patients: training patients for ImageNet's, others held out for the classifier's, which was trained on the former
and places them farther from held-out images than it places generated ones. Besides, the held-out images themselves,
encoded and decoded: the part that is the autoencoder's.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from machine import machine
from skiagraph.data.captions import record_prompt
from skiagraph.data.datasets import Record, load_records
from skiagraph.data.images import read_radiograph, square
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.evaluation import MetricResult, auroc, frechet_distance, kernel_distance, memorisation
from skiagraph.evaluation.features import EXTRACTOR as CLASSIFIER
from skiagraph.evaluation.features import classify
from skiagraph.evaluation.imagenet import EXTRACTOR as IMAGENET
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL, load_component
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.training.tasks.classifier import TARGETS, targets_of

DATASETS = ("kermany_pneumonia", "nih_chestxray14", "hannover_covid19")
SIDE = 256


def main() -> None:
    """Generate, measure, print and write results.json."""
    args = _arguments()
    torch.manual_seed(0)
    holdout = _one_per_patient(load_records(DATASETS, args.data, splits=["test"]), args.seed)
    holdout = random.Random(args.seed).sample(holdout, min(args.n, len(holdout)))
    train = load_records(DATASETS, args.data, splits=["train"])
    unseen = _one_per_patient(load_records(DATASETS, args.data, splits=["val", "test"]), args.seed)
    seen = {(r.dataset, r.patient) for r in holdout}
    others = _matched([r for r in unseen if (r.dataset, r.patient) not in seen], holdout, args.seed)

    config = GenerateConfig(
        reports=tuple(record_prompt(r) for r in holdout), model=args.model, seed=args.seed, steps=args.steps,
        guidance=args.guidance, dtype=args.dtype, batch_size=16,
    )  # fmt: skip
    rows = generate(config, args.output / "images")["images"]
    synthetic = np.stack([np.asarray(Image.open(args.output / "images" / r["file"]), np.float32) / 255 for r in rows])

    holdout_pixels, train_pixels = _pixels(holdout), _pixels(train)
    groups = {"train_groups": _patients(train), "holdout_groups": _patients(holdout)}
    classifier, imagenet = load_component(CLASSIFIER), ImageNetExtractor()
    place = {r.key: i for i, r in enumerate(train)}
    matched = [place[r.key] for r in _matched([r for r in train if r.labels], holdout, args.seed)]
    reconstructed = _through_autoencoder(holdout_pixels, args.model)
    results: dict[str, MetricResult] = {}
    for extractor, features, floor in (
        (CLASSIFIER, lambda x: classify(classifier, x)[0], _pixels(others)),
        (IMAGENET, imagenet.features, train_pixels[matched]),
    ):
        real, fake = features(holdout_pixels), features(synthetic)
        sets = {"generated": fake, "floor": features(floor), "reconstructed": features(reconstructed)}
        for name, found in sets.items():
            for metric in (frechet_distance, kernel_distance):
                result = metric(real, found, extractor=extractor)
                results[f"{result.name}, {name} to held-out [{extractor}]"] = result
        copied = memorisation(fake, features(train_pixels), real, extractor=extractor, **groups)
        results[f"memorised share [{extractor}]"] = copied
    results |= _intended(holdout, classify(classifier, synthetic)[1], "generated")
    results |= _intended(holdout, classify(classifier, holdout_pixels)[1], "real held-out")
    _report(results, args, len(holdout))


def _through_autoencoder(pixels: np.ndarray, model: str) -> np.ndarray:
    """Radiographs as the autoencoder gives them back: what no denoiser could do better."""
    pipeline = TextToImagePipeline.load(model)
    return np.concatenate(
        [pipeline.decode(pipeline.encode(part)) for part in np.array_split(pixels, len(pixels) // 16)]
    )


def _intended(records: list[Record], scores: dict[str, np.ndarray], whose: str) -> dict[str, MetricResult]:
    """AUROC of the classifier's score against the label asked for, where at least 10 images are on each side."""
    targets = np.array([targets_of(r) for r in records])
    found = {}
    for index, name in enumerate(TARGETS):
        known = ~np.isnan(targets[:, index])
        truth = targets[known, index]
        if min(truth.sum(), len(truth) - truth.sum()) >= 10:
            found[f"AUROC {name}, {whose}"] = auroc(truth.astype(int), scores[name][known])
    return found


def _one_per_patient(records: list[Record], seed: int) -> list[Record]:
    shuffled = random.Random(seed).sample(records, len(records))
    return list({(r.dataset, r.patient): r for r in shuffled if r.labels}.values())


def _matched(pool: list[Record], holdout: list[Record], seed: int) -> list[Record]:
    """As many others as held-out images from every dataset, normal or not, as far as there are."""
    rng, chosen = random.Random(seed), []
    for dataset in DATASETS:
        for normal in (True, False):
            wanted = sum(r.dataset == dataset and ("normal" in r.labels) == normal for r in holdout)
            alike = [r for r in pool if r.dataset == dataset and ("normal" in r.labels) == normal]
            chosen += rng.sample(alike, min(wanted, len(alike)))
    return chosen


def _pixels(records: list[Record]) -> np.ndarray:
    return np.stack([square(read_radiograph(r.path).pixels, SIDE, fit="crop") for r in records])


def _patients(records: list[Record]) -> np.ndarray:
    return np.array([f"{r.dataset}/{r.patient}" for r in records])


def _report(results: dict[str, MetricResult], args: argparse.Namespace, n: int) -> None:
    for name, result in results.items():
        print(f"{name}: {result.value:.4f} ({result.low:.4f} to {result.high:.4f}), n = {result.n}")
    write_json(
        args.output / "results.json",
        {
            "settings": {
                "n": n,
                "steps": args.steps,
                "guidance": args.guidance,
                "dtype": args.dtype,
                "seed": args.seed,
            },
            "machine": machine(),
            "results": {name: {k: v for k, v in r.to_dict().items() if k != "details"} for name, r in results.items()},
        },
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/quality"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--n", type=int, default=600)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
