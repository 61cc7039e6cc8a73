"""Where do words point? Pointing game and IoU of raw attention maps against drawn masks, per layer and noise level.

    python benchmarks/grounding.py --data DIR -o out/grounding

Real radiographs of held-out patients with trusted lung masks are noised and given to the denoiser once with a prompt
that names both lungs; the maps of "right lung" and "left lung" are compared with the drawn masks of that side. No
sampling and no threshold search: maps are cut at half their maximum.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from machine import machine
from skiagraph.attention.grounding import pointing_game, threshold_iou
from skiagraph.attention.heatmaps import capture_words, word_spans
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.datasets import load_records, masked
from skiagraph.data.images import read_radiograph, square
from skiagraph.data.masks import LUNG_SIDES, read_mask
from skiagraph.errors import DataError
from skiagraph.evaluation import bootstrap
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL
from skiagraph.pipelines.text_to_image import TextToImagePipeline, with_words

SIDE = 256
TIMESTEPS = (50, 150, 300, 450, 600, 750, 900)


def main() -> None:
    """Measure every layer at every noise level, print the table and write results.json."""
    args = _arguments()
    torch.manual_seed(0)
    pipeline = TextToImagePipeline.load(args.model)
    images, masks, prompts = cases(args.data, "kermany_pneumonia", args.split, args.n)
    latents = pipeline.encode(images)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    rows = []
    for step in TIMESTEPS:
        found: dict[str, dict[str, list[torch.Tensor]]] = {}
        for part in torch.arange(len(images)).split(32):
            noisy = pipeline.scheduler.add_noise(latents[part], noise[part], torch.full((len(part),), step))
            for layer, maps in _maps(pipeline, noisy, step, [prompts[i] for i in part]).items():
                maps = maps / maps.amax(dim=(-1, -2), keepdim=True)
                truth = F.adaptive_avg_pool2d(masks[part], maps.shape[-2:])
                values = found.setdefault(layer, {"pointing": [], "iou": []})
                values["pointing"].append(pointing_game(maps, truth).float())
                values["iou"].append(threshold_iou(maps, truth))
        rows += [_row(layer.split(".attn")[0], step, values) for layer, values in found.items()]
    for row in sorted(rows, key=lambda r: -r["iou"])[:12]:
        print(f"{row['layer']:14s} t={row['timestep']:3d} pointing {row['pointing']:.3f} IoU {row['iou']:.3f}")
    write_json(args.output / "results.json", {"n": len(images), "machine": machine(), "rows": rows})


def _row(layer: str, step: int, values: dict[str, list[torch.Tensor]]) -> dict:
    iou, hits = (torch.cat(values[name]).numpy() for name in ("iou", "pointing"))
    low, high = bootstrap(np.mean, iou.mean(axis=1))
    return {
        "layer": layer, "timestep": step, "pointing": float(hits.mean()), "iou": float(iou.mean()), "low": low,
        "high": high, "iou_by_side": dict(zip(LUNG_SIDES, iou.mean(axis=0).tolist(), strict=True)),
    }  # fmt: skip


@torch.no_grad()
def _maps(pipeline: TextToImagePipeline, noisy: torch.Tensor, step: int, prompts: list[str]) -> dict[str, torch.Tensor]:
    length = pipeline.config.prompt_length
    spans = word_spans(pipeline.tokenizer, prompts, [LUNG_SIDES] * len(prompts), length)
    text = pipeline.encode_prompts(prompts)
    with capture_words(pipeline.denoiser, spans) as maps:
        pipeline.denoiser(noisy, step, text.states, text.mask)
    return maps.mean()


def cases(data: str | None, dataset: str, split: str, count: int) -> tuple[np.ndarray, torch.Tensor, list[str]]:
    """About `count` images (n, H, W) in [0, 1], lung masks (n, 2, H, W), and prompts that name both lungs."""
    records = masked(load_records([dataset], data, splits=[split]))
    images, masks, prompts = [], [], []
    for record in records[:: max(1, len(records) // count)]:
        try:
            labels = read_mask(record.mask, SIDE, fit="crop", classes=LUNG_SIDES)
        except DataError:
            continue
        images.append(square(read_radiograph(record.path).pixels, SIDE, fit="crop"))
        masks.append(np.stack([labels == 1, labels == 2]))
        prompts.append(with_words(record_prompt(record), LUNG_SIDES))
    return np.array(images), torch.from_numpy(np.array(masks)).float(), prompts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/grounding"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--n", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
