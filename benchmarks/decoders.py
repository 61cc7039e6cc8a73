"""Is one perceptual decoder better than another? Both draw the same latents, of validation patients.

    python benchmarks/decoders.py --decoder cxr-256/perceptual_vae runs/decoder/model -o out/decoders

Latents are of n validation patients: samples of the model for their label rows, and their radiographs encoded.
Distances are to those radiographs, by two ImageNet networks against which no decoder was trained.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track
from torch import Generator, Tensor

from held_out import squares
from machine import machine
from probes import DATASETS
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.datasets import Record, load_records
from skiagraph.devices import fast_bfloat16
from skiagraph.evaluation import kernel_distance
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL, load_component
from skiagraph.pipelines.text_to_image import TextToImagePipeline

NETWORKS = ("efficientnet-lite0", "efficientnet-lite2")
BATCH = 32


def main() -> None:
    """Sample, draw with each decoder, print a row for it and write results.json."""
    args = _arguments()
    records = patients_of(DATASETS, "val", args)
    generated = sampled(records, args)
    pipeline = TextToImagePipeline.load(args.model)
    real = squares(records, pipeline.image_side, "pad")
    latents = {"generated": generated, "real": pipeline.encode(real)}
    extractors = [ImageNetExtractor(name) for name in NETWORKS]
    rows = []
    for decoder in args.decoder:
        pipeline.perceptual_vae = load_component(decoder).eval()
        for kind, of in latents.items():
            drawn = pipeline.draw(of, Generator().manual_seed(args.seed))
            found = [kernel_distance(e.features(real), e.features(drawn), extractor=e.name) for e in extractors]
            rows.append({"decoder": decoder, "latents": kind, "distances": [f.to_dict() for f in found]})
            print(decoder, kind, *(f"{f.extractor} {f.value:.2f} ({f.low:.2f} to {f.high:.2f})" for f in found))
    write_json(args.output / "results.json", {"n": len(records), "machine": machine(), "rows": rows})


def patients_of(datasets: Sequence[str], split: str, args: argparse.Namespace) -> list[Record]:
    """One radiograph of each of n patients of a split."""
    found = load_records(datasets, args.data, splits=[split])
    first = list({(r.dataset, r.patient): r for r in reversed(found)}.values())[::-1]
    return random.Random(args.seed).sample(first, min(args.n, len(first)))


def sampled(records: list[Record], args: argparse.Namespace) -> Tensor:
    """The model's scaled latents (n, c, h, w) of the records' label rows."""
    half = fast_bfloat16(torch.device("cpu"))
    pipeline = TextToImagePipeline.load(args.model, dtype=torch.bfloat16 if half else torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    parts = []
    for start in track(range(0, len(records), BATCH), "sampling"):
        part = [record_prompt(r) for r in records[start : start + BATCH]]
        seeds = [args.seed + start + i for i in range(len(part))]
        parts.append(pipeline(part, seeds=seeds, num_inference_steps=args.steps, output_type="latent").images)
    return torch.cat(parts).float()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/decoders"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--decoder", nargs="+", required=True, help="folders of decoders")
    parser.add_argument("--n", type=int, default=192)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
