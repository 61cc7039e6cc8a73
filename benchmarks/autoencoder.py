"""What the autoencoder keeps, and who restores noisy latents better: its decoder or the denoiser.

    python benchmarks/autoencoder.py --data DIR -o out/autoencoder

Radiographs of held-out patients. Reconstructions: by the first coefficients of the Karhunen-Loeve transform alone, and
by the whole autoencoder. Restoration: latents with noise of a known strength are decoded (and encoded again), or given
to the denoiser at the step with that noise, with the prompt of the image's labels; errors count as they do in pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from held_out import squares
from machine import machine
from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.datasets import load_records
from skiagraph.evaluation import bootstrap
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL
from skiagraph.pipelines.text_to_image import TextToImagePipeline

DATASETS = ("kermany_pneumonia", "nih_chestxray14", "hannover_covid19")
COEFFICIENTS = (8, 16, 24, 32)
TIMESTEPS = (20, 60, 120, 250, 500)


def main() -> None:
    """Measure, print and write results.json."""
    args = _arguments()
    torch.manual_seed(0)
    pipeline = TextToImagePipeline.load(args.model)
    records = load_records(DATASETS, args.data, splits=["test"])
    records = records[:: max(1, len(records) // args.n)][: args.n]
    side = pipeline.image_side
    images = squares(records, side, "crop")
    latents = pipeline.encode(images)

    rows = {f"{k} coefficients": _psnr(_inverse(pipeline, latents, k), images) for k in COEFFICIENTS}
    rows["autoencoder"] = _psnr(pipeline.decode(latents), images)
    for step in TIMESTEPS:
        rows |= _restoration(pipeline, latents, [record_prompt(r) for r in records], step)
    for name, values in rows.items():
        low, high = bootstrap(np.mean, values)
        rows[name] = {"mean": float(values.mean()), "low": low, "high": high}
        print(f"{name:48s} {rows[name]['mean']:.4f} ({low:.4f} to {high:.4f})")
    write_json(args.output / "results.json", {"n": len(records), "machine": machine(), "rows": rows})


@torch.no_grad()
def _inverse(pipeline: TextToImagePipeline, latents: Tensor, count: int) -> np.ndarray:
    """Images from the first coefficients, linearly."""
    kept = latents.clone()
    kept[:, count:] = 0
    return (pipeline.vae.inverse(kept)[:, 0] / 2 + 0.5).clamp(0, 1).numpy()


def _psnr(found: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in dB, of a range of 1."""
    return -10 * np.log10(np.square(found - images).mean(axis=(1, 2)))


@torch.no_grad()
def _restoration(
    pipeline: TextToImagePipeline, latents: Tensor, prompts: list[str], step: int
) -> dict[str, np.ndarray]:
    """Error of restored over error of noisy latents, each image, by decoder and denoiser."""
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(scheduler.config.num_train_timesteps)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
    signal = scheduler.alphas_cumprod[step].sqrt()
    sigma = (1 - signal**2).sqrt() / signal
    noisy = latents + sigma * noise
    weights = pipeline.vae.pixel_gain.view(-1, 1, 1)

    text = pipeline.encode_prompts(prompts)
    predicted = torch.cat([
        pipeline.denoiser(signal * noisy[part], step, text.states[part], text.mask[part]).sample
        for part in torch.arange(len(latents)).split(16)
    ])  # fmt: skip
    by_denoiser = scheduler.step(predicted, step, signal * noisy).pred_original_sample
    by_decoder = pipeline.encode(pipeline.decode(noisy))

    def share(restored: Tensor) -> np.ndarray:
        error, before = (((x - latents).square() * weights).mean(dim=(1, 2, 3)) for x in (restored, noisy))
        return (error / before).sqrt().numpy()

    at = f"noise {float(sigma):.2f} (t = {step}), left by the"
    return {f"{at} denoiser": share(by_denoiser), f"{at} decoder": share(by_decoder)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/autoencoder"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--n", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
