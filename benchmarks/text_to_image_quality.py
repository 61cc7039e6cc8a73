"""How good are generated radiographs? Distances to held-out real ones, intended labels read off them, and copies.

    python benchmarks/text_to_image_quality.py --data DIR -o out/quality

Generates one image for each of n held-out patients' label rows (never seen in training), so that both sides have the
same mix of findings, views and ages. Judges: EfficientNet-Lite0 and Lite2 of ImageNet, against which nothing here was
trained; the shipped classifier; for findings, a probe of Lite2 beside the classifier; distances of patches by size,
with letters and without, no network in them; and a network trained for nothing but to tell both sides apart. Floors are
real images of other patients against the same held-out ones, at equal n with the same mix: training patients, except
for the classifier, which was trained on those. Beside them stand held-out images through the faithful decoder and
through the perceptual one.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from held_out import one_per_patient, squares
from machine import machine
from probes import DATASETS, label_aurocs, reporting_judges
from skiagraph.data.chest.anatomy import regions_of_lungs
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.chest.markers import marker_mask
from skiagraph.data.chest.measure import measure
from skiagraph.data.datasets import Record, load_records
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.evaluation import (
    CopyCheck,
    MetricResult,
    auroc,
    frechet_distance,
    kernel_distance,
    sliced_wasserstein,
    two_sample_test,
)
from skiagraph.evaluation.copies import ALTERATIONS, THUMBNAIL, thumbnails
from skiagraph.evaluation.features import EXTRACTOR as CLASSIFIER
from skiagraph.evaluation.features import classify
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.evaluation.membership import membership_inference
from skiagraph.evaluation.result import mean_result
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL, load_component
from skiagraph.pipelines.organs import find_lungs
from skiagraph.pipelines.text_to_image import TextToImagePipeline

SIDE = 256
PLANTED = 100
"""Training images that are altered and planted as copies."""

AROUND = 6
"""Pixels around a letter that stand in its place."""

RARE = "pneumothorax"
BESIDE = 10
"""Patients without the rare finding, for each with it."""

Results = dict[str, MetricResult]
Features = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Generate, measure, print and write results.json."""
    args = _arguments()
    torch.manual_seed(0)
    unseen = one_per_patient(load_records(DATASETS, args.data, splits=["val", "test"]), args.seed)
    tested = [r for r in unseen if r.split == "test"]
    holdout = random.Random(args.seed).sample(tested, min(args.n, len(tested)))
    train = load_records(DATASETS, args.data, splits=["train"])
    seen = {(r.dataset, r.patient) for r in holdout}
    others = _matched([r for r in unseen if (r.dataset, r.patient) not in seen], holdout, args.seed)
    matched = _matched(one_per_patient(train, args.seed), holdout, args.seed)
    synthetic = _generated([record_prompt(r) for r in holdout], args, "images")
    real, floor = squares(holdout, SIDE, "crop"), squares(matched, SIDE, "crop")
    pipeline = TextToImagePipeline.load(args.model)
    sets = {"generated": synthetic, "floor": floor, **_through_decoders(real, pipeline)}

    results: Results = {}
    for name in ("efficientnet-lite0", "efficientnet-lite2"):
        extractor = ImageNetExtractor(name)
        results |= _distances(real, sets, extractor.features, extractor.name)
    classifier = load_component(CLASSIFIER)
    results |= _distances(
        real, {**sets, "floor": squares(others, SIDE, "crop")}, lambda x: classify(classifier, x)[0], CLASSIFIER
    )
    for name, images in sets.items():
        results |= {f"{r.name}, {name}": r for r in sliced_wasserstein(real, images)}
    plain = {name: np.stack([_without_markers(image) for image in x]) for name, x in {"real": real, **sets}.items()}
    for name in sets:
        results |= {f"{r.name}, {name}, no letters": r for r in sliced_wasserstein(plain["real"], plain[name])}
    for name in ("generated", "floor"):
        groups = {"real_groups": _patients(holdout), "synthetic_groups": np.arange(len(sets[name]))}
        results[f"two-sample AUC, {name}"] = two_sample_test(real, sets[name], **groups, seed=args.seed)
    for judge in reporting_judges(args.data, args.output):
        results |= _intended(holdout, judge(synthetic), f"generated [{judge.name}]")
        results |= _intended(holdout, judge(real), f"real [{judge.name}]")
    results |= _rare(load_records(DATASETS, args.data, splits=["test"]), args)
    results |= _effusion_sides(args)
    results |= _copies(train, holdout, {**sets, "real": real}, pipeline, ImageNetExtractor())
    _report(results, args, len(holdout))


def _distances(real: np.ndarray, sets: dict[str, np.ndarray], features: Features, extractor: str) -> Results:
    found, results = features(real), {}
    for name, images in sets.items():
        other = features(images)
        for metric in (frechet_distance, kernel_distance):
            result = metric(found, other, extractor=extractor)
            results[f"{result.name}, {name} to held-out [{extractor}]"] = result
    return results


def _without_markers(image: np.ndarray) -> np.ndarray:
    """The picture (H, W) with what is around in the place of letters, lead markers and devices that are found.

    Theirs are the sharpest edges of all, and patches are measured in their standard deviations.
    """
    plain = ~marker_mask(image)
    around = gaussian_filter(image * plain, AROUND) / np.maximum(gaussian_filter(plain.astype(float), AROUND), 1e-6)
    return np.where(plain, image, around).astype(np.float32)


def _through_decoders(pixels: np.ndarray, pipeline: TextToImagePipeline) -> dict[str, np.ndarray]:
    """Radiographs as each decoder gives them back: what no denoiser could do better."""
    latents = pipeline.encode(pixels).split(16)
    sets = {"faithful decoder": np.concatenate([pipeline.decode(z) for z in latents])}
    if pipeline.perceptual_vae is not None:
        sets["perceptual decoder"] = np.concatenate([pipeline.draw(z) for z in latents])
    return sets


def _intended(records: list[Record], scores: dict[str, np.ndarray], whose: str) -> Results:
    """AUROC of a judge's score against the label asked for, where at least 10 images are on each side."""
    return {f"AUROC {name}, {whose}": found for name, found in label_aurocs(records, scores, least=10).items()}


def _rare(tested: list[Record], args: argparse.Namespace) -> Results:
    """AUROC of a finding that too few of the drawn patients show: of all test patients that do, and others beside."""
    shown = one_per_patient([r for r in tested if RARE in r.labels], args.seed)
    adults = one_per_patient([r for r in tested if r.dataset == shown[0].dataset], args.seed)
    ill = {r.patient for r in shown}
    records = shown + [r for r in adults if r.patient not in ill][: BESIDE * len(shown)]
    truth = np.array([RARE in r.labels for r in records], int)
    sets = {
        "generated": _generated([record_prompt(r) for r in records], args, RARE),
        "real": squares(records, SIDE, "crop"),
    }
    return {
        f"AUROC {RARE}, {whose} [{judge.name}]": auroc(truth, judge(images)[RARE])
        for judge in reporting_judges(args.data, args.output)
        for whose, images in sets.items()
    }


def _effusion_sides(args: argparse.Namespace) -> Results:
    """Is an effusion on the side asked for? By which lung base is denser, in images made for this."""
    reports = [f"Large {side} pleural effusion. PA view of an adult." for side in ("right", "left")] * (args.sides // 2)
    images = _generated(reports, args, "effusions")
    found = find_lungs(
        load_component("lung-segmenter").eval(), torch.from_numpy(np.round(images * 255).astype(np.uint8))[:, None]
    )
    asked, lean = [], []
    for report, image, lungs in zip(reports, images, found, strict=True):
        if (regions := regions_of_lungs(lungs.numpy())) is not None:
            asked.append("right" in report)
            lean.append(measure(image, regions)["base density difference"])
    return {"AUROC side of effusion, generated": auroc(np.array(asked, int), np.array(lean))}


def _copies(
    train: list[Record], holdout: list[Record], sets: dict[str, np.ndarray], pipeline: TextToImagePipeline,
    extractor: ImageNetExtractor,
) -> Results:  # fmt: skip
    pixels = squares(train, SIDE, "crop")
    rng = np.random.default_rng(0)
    planted = pixels[rng.choice(len(pixels), PLANTED, replace=False)]
    kinds = {name: np.asarray(alter(planted, rng), np.float32) for name, alter in ALTERATIONS.items()}
    kinds |= _through_decoders(planted, pipeline)
    kinds["noised and denoised"] = _renoised(planted, pipeline)
    groups = {"train_groups": _patients(train), "holdout_groups": _patients(holdout)}
    results = {}
    for name, features in ((extractor.name, extractor.features), (THUMBNAIL, thumbnails)):
        real, synthetic, known = (features(sets[kind]) for kind in ("real", "generated", "floor"))
        check = CopyCheck(features(pixels), real, extractor=name, **groups)
        result = check.share(synthetic, {kind: features(x) for kind, x in kinds.items()})
        results[f"copies [{name}]"] = result
        found = membership_inference(known, real, synthetic, extractor=name)
        results[f"membership inference, patients of one mix [{name}]"] = found
        above = np.array(result.details["scores"]) > check.threshold
        for dataset in sorted({r.dataset for r in holdout}):
            chosen = above[[r.dataset == dataset for r in holdout]].astype(float)
            results[f"copies, as of {dataset} [{name}]"] = mean_result("share of copies", chosen, "lower", seed=0)
    return results


def _renoised(pixels: np.ndarray, pipeline: TextToImagePipeline, strength: float = 0.5) -> np.ndarray:
    """Images noised to half the schedule and denoised without words: what a model that knows them might give back."""
    made = []
    for part in np.array_split(pixels, len(pixels) // 10):
        scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        scheduler.set_timesteps(20)
        steps = scheduler.timesteps[int(20 * (1 - strength)) :]
        scheduler.set_begin_index(20 - len(steps))
        generator = torch.Generator().manual_seed(0)
        latents = pipeline.encode(part)
        latents = scheduler.add_noise(latents, torch.randn(latents.shape, generator=generator), steps[:1])
        text = pipeline.encode_prompts([""] * len(part))
        for step in steps:
            with torch.no_grad():
                predicted = pipeline.predict_guided(latents, step, text, 1.0)
            latents = scheduler.step(predicted, step, latents, generator=generator, return_dict=False)[0]
        made.append(pipeline.draw(latents))
    return np.concatenate(made)


def _generated(reports: list[str], args: argparse.Namespace, folder: str) -> np.ndarray:
    config = GenerateConfig(
        reports=tuple(reports), model=args.model, seed=args.seed, steps=args.steps, guidance=args.guidance,
        dtype=args.dtype, batch_size=16,
    )  # fmt: skip
    rows = generate(config, args.output / folder)["images"]
    return np.stack([np.asarray(Image.open(args.output / folder / r["file"]), np.float32) / 255 for r in rows])


def _matched(pool: list[Record], holdout: list[Record], seed: int) -> list[Record]:
    """As many others as held-out images from every dataset, normal or not, as far as there are."""
    rng, chosen = random.Random(seed), []
    for dataset in sorted({r.dataset for r in holdout}):
        for normal in (True, False):
            wanted = sum(r.dataset == dataset and ("normal" in r.labels) == normal for r in holdout)
            alike = [r for r in pool if r.dataset == dataset and ("normal" in r.labels) == normal]
            chosen += rng.sample(alike, min(wanted, len(alike)))
    return chosen


def _patients(records: list[Record]) -> np.ndarray:
    return np.array([f"{r.dataset}/{r.patient}" for r in records])


def _report(results: Results, args: argparse.Namespace, n: int) -> None:
    for name, result in results.items():
        found = result.details.get("found", "")
        print(f"{name}: {result.shown(4)}, n = {result.n} {found}")
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("data", "output")}
    kept = {name: {k: v for k, v in r.to_dict().items() if k != "details"} for name, r in results.items()}
    found = {name: r.details["found"] for name, r in results.items() if "found" in r.details}
    write_json(
        args.output / "results.json",
        {"settings": {**settings, "n": n}, "machine": machine(), "results": kept, "planted copies found": found},
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/quality"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--sides", type=int, default=60, help="effusions made to see whether their side is right")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
