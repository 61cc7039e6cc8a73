"""How well denoisers predict: error of velocity on radiographs, whatever the latents' scale is made of.

    python benchmarks/denoiser_error.py RUN/recipe.yaml RUN --data DIR --model cxr-256 RUN/model

RUN is a training run of a text-to-image recipe: its cached measures make the captions. Every model gets the same
pictures, captions and timesteps; latent pixels with letters or devices do not count. Two numbers for each: the first 8
latent channels weighted by what they do to pixels (coarse content), and channels 2 to 8 counted alike (ribs).
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from torch import Generator

from machine import machine
from skiagraph.data.captions import caption_text, compose
from skiagraph.evaluation.result import bootstrap
from skiagraph.models.text import encode_text
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.training.recipe import load_recipe
from skiagraph.training.tasks.text_to_image import TextToImageTask, denoising_error, training_scheduler
from skiagraph.training.views import counted_where

TIMESTEPS = (100, 300, 500, 700, 900)
CHANNELS = 8


@torch.no_grad()
def errors(
    pipeline: TextToImagePipeline, images: torch.Tensor, markers: torch.Tensor, captions: list[str]
) -> torch.Tensor:
    """Squared error of velocity (images, channels), a mean over pixels and timesteps, one noise each."""
    config, totals = pipeline.vae.config, []
    scheduler = training_scheduler(pipeline.scheduler.config.prediction_type)
    for start in range(0, len(images), 12):
        part = images[start : start + 12].float() / 127.5 - 1
        generator = Generator().manual_seed(start)
        latents = pipeline.vae.encode(part).latent_dist.sample(generator) * config.scaling_factor
        text = encode_text(
            pipeline.text_encoder, pipeline.tokenizer, captions[start : start + 12],
            max_length=pipeline.config.prompt_length,
        )  # fmt: skip

        def predict(noisy: torch.Tensor, steps: torch.Tensor, text: object = text) -> torch.Tensor:
            return pipeline.denoiser(noisy, steps, text.states, text.mask).sample

        found = [
            denoising_error(predict, scheduler, latents, torch.full((len(part),), t), Generator().manual_seed(t))
            for t in TIMESTEPS
        ]
        counted = counted_where(markers[start : start + 12].float() / 255, latents.shape[-1])
        totals.append((torch.stack(found).mean(dim=0) * counted).sum(dim=(2, 3)) / counted.sum(dim=(2, 3)))
    return torch.cat(totals)


def main() -> None:
    """Print a line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", nargs="+", required=True)
    parser.add_argument("--n", type=int, default=72)
    parser.add_argument(
        "--split", choices=["val", "train"], default="val", help="train: what the models were trained on"
    )
    args = parser.parse_args()
    task = TextToImageTask(load_recipe(args.recipe), args.run / "cache", torch.device("cpu"))
    views, facts = (task.val, task.val_facts) if args.split == "val" else (task.train, task.train_facts)
    chosen = np.linspace(0, len(facts) - 1, args.n).round().astype(int)
    rng = random.Random(0)
    captions = [caption_text(compose(facts[i], rng, 0.25, task.domain.words)) or "adult" for i in chosen]
    print(machine(), f"n {args.n} radiographs of {args.split}, timesteps {TIMESTEPS}")
    for name in args.model:
        pipeline = TextToImagePipeline.load(name)
        pictures, markers = (part[torch.from_numpy(chosen)] for part in (views.images, views.markers))
        found = errors(pipeline, pictures, markers, captions)[:, :CHANNELS].numpy()
        gain = pipeline.vae.pixel_gain[:CHANNELS].numpy()
        for title, values in (
            ("first 8 channels by pixel gain", found @ (gain / gain.sum())),
            ("channels 2 to 8 alike", found[:, 1:].mean(axis=1)),
        ):
            low, high = bootstrap(lambda a: float(a.mean()), values)
            print(f"{name}: {title} {values.mean():.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
