"""What is each step from attention to mask worth? IoU with drawn masks, step by step (arXiv 2503.07209, section 3).

    python benchmarks/mask_steps.py --data DIR -o out/mask-steps                # validation patients
    python benchmarks/mask_steps.py --data DIR --split test -o out/mask-steps   # the table; nothing was chosen by it

Real radiographs of held-out patients whose drawn mask is surely theirs are noised and given to the denoiser once per
noise level with a prompt that names both lungs; the maps are averaged over levels as sampling averages them over steps.
From there on all is as in `skiagraph pairs`: the AffinityNet learns from these very images and maps and sees no drawn
mask. Beside the steps stand the dark areas that teach a model without drawn masks (`data/threshold_lungs.py`). The test
split adds the CC BY collection, adults of other hospitals.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from grounding import cases
from machine import machine
from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.heatmaps import capture_words, word_spans
from skiagraph.data.chest.threshold_lungs import threshold_lungs
from skiagraph.data.masks import LUNG_SIDES
from skiagraph.engine.pairs import affinity_recipe
from skiagraph.evaluation import dice, iou, pooled_iou
from skiagraph.files import write_json
from skiagraph.masks.refine import label_map, refine, walk_heats
from skiagraph.masks.settings import DIFFUMASK, RADIOGRAPHS
from skiagraph.masks.threshold import confident_labels, threshold_masks
from skiagraph.models.affinity_net import AffinityNet
from skiagraph.models.registry import DEFAULT_MODEL
from skiagraph.pipelines.pairs import NOISE
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.training.images import to_model_range
from skiagraph.training.loop import train
from skiagraph.training.tasks.affinity import AffinityTask

DATASETS = {
    "val": {"children": "kermany_pneumonia"},
    "test": {"children": "kermany_pneumonia", "adults": "covid_chestxray_ccby"},
}
SETTINGS = {"radiographs": RADIOGRAPHS, "diffumask": DIFFUMASK}


def main() -> None:
    """Make every step's masks, print the table and write results.json and table.md."""
    args = _arguments()
    torch.manual_seed(0)
    pipeline = TextToImagePipeline.load(args.model)
    rows = [row for name, dataset in DATASETS[args.split].items() for row in _rows(pipeline, name, dataset, args)]
    table = _table(rows)
    print(table)
    write_json(args.output / "results.json", {"settings": args.settings, "machine": machine(), "rows": rows})
    (args.output / "table.md").write_text(table + "\n", encoding="utf-8")


def _rows(pipeline: TextToImagePipeline, name: str, dataset: str, args: argparse.Namespace) -> list[dict]:
    """Every step's scores on a data set."""
    pictures, sides, prompts = cases(args.data, dataset, args.split, args.n)
    heats = _heats(pipeline, pictures, prompts)
    images, true = (pictures * 255).round().astype(np.uint8), sides.numpy().any(axis=1)
    rows = []
    for step, masks in _steps(images, heats, args).items():
        scores = {f.__name__: f(masks, true).to_dict() for f in (pooled_iou, iou, dice)}
        rows.append({"of": name, "step": step, "share": float(masks.mean()), "drawn": float(true.mean()), **scores})
    return rows


@torch.no_grad()
def _heats(pipeline: TextToImagePipeline, pictures: np.ndarray, prompts: list[str]) -> np.ndarray:
    """Heat maps of "lung", float32 (n, H, W) in [0, 1]."""
    latents = pipeline.encode(pictures)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    levels = pipeline.scheduler.config.num_train_timesteps
    steps = np.linspace(NOISE[0] * levels, NOISE[1] * levels, 5).round().astype(int).tolist()
    found = []
    for part in track(torch.arange(len(pictures)).split(16), "maps", transient=True):
        named = [prompts[i] for i in part]
        spans = word_spans(pipeline.tokenizer, named, [LUNG_SIDES] * len(part), pipeline.config.prompt_length)
        text = pipeline.encode_prompts(named)
        with capture_words(pipeline.denoiser, spans, adapter_of(pipeline.denoiser).pointing) as maps:
            for step in steps:
                noisy = pipeline.scheduler.add_noise(latents[part], noise[part], torch.full((len(part),), step))
                pipeline.denoiser(noisy, step, text.states, text.mask)
        found.append(maps.combined(pictures.shape[1:]).amax(dim=1))
    return torch.cat(found).clamp(0, 1).numpy()


def _steps(images: np.ndarray, heats: np.ndarray, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Masks bool (n, H, W) after each step."""
    settings = SETTINGS[args.settings]
    middle = settings.thresholds[len(settings.thresholds) // 2]
    pairs = zip(heats, track(images, "labels", transient=True), strict=True)
    labels = [confident_labels(heat[None], image, settings) for heat, image in pairs]
    stacks = (torch.from_numpy(np.stack(a))[:, None] for a in (images, labels))
    recipe = affinity_recipe(args.affinity_steps, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = train(recipe, AffinityTask(recipe, *stacks), folder)
        network = AffinityNet.from_pretrained(path, use_safetensors=True).eval()
    names = ("dark areas, no model", "raw threshold", "+ CRF", "affinity walk", "full")
    made: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for image, heat in zip(track(images, "masks", transient=True), heats, strict=True):
        with torch.no_grad():
            features = network(to_model_range(torch.from_numpy(image)[None, None]))[0]
        dark = threshold_lungs(image / 255)
        made["dark areas, no model"].append(np.zeros(image.shape, bool) if dark is None else dark[0] | dark[1])
        made["raw threshold"].append(heat > middle)
        made["+ CRF"].append(threshold_masks(heat, image, settings)[middle])
        made["affinity walk"].append(label_map(walk_heats(heat[None], features), settings.background) > 0)
        made["full"].append(refine(heat[None], image, features, settings).labels > 0)
    return {name: np.stack(masks) for name, masks in made.items()}


def _table(rows: list[dict]) -> str:
    lines = [
        "| masks of | n | step | share of the picture (drawn) | IoU pooled | IoU per image | Dice per image |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        scores = (row[name] for name in ("pooled_iou", "iou", "dice"))
        cells = [f"{r['value']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in scores]
        share = f"{row['share']:.2f} ({row['drawn']:.2f})"
        lines.append(f"| {row['of']} | {row['iou']['n']} | {row['step']} | {share} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/mask-steps"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--settings", choices=SETTINGS, default="radiographs", help="diffumask: the papers' numbers")
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--affinity-steps", type=int, default=300)
    return parser.parse_args()


if __name__ == "__main__":
    main()
