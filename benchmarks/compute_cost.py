"""Multiply-adds of U-ViT presets against Stable Diffusion 1.5, and the configuration nearest the paper's.

Everything is counted on the meta device: no weights, no data, no accelerator.

    python benchmarks/compute_cost.py --output results/compute_cost
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from skiagraph.files import atomic_path, write_json
from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.models.cost import ComponentCost, component_cost, uvit_macs
from skiagraph.models.uvit import PRESETS, UViT2DModel

LATENT = 32
TEXT_DIM = 768
TEXT_TOKENS = (0, 77, 128, 256)
PAPER_GFLOPS = 118.918
"""Chest-Diffusion, arXiv 2407.00752; the paper does not say whether it counts multiply-adds or FLOPs."""

SD15_UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD15_VAE = {
    "sample_size": 512,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}


def main() -> None:
    options = _options()
    with torch.device("meta"):
        uvits = list(uvit_rows())
        others = peers()
    unets = {size: next(c.macs for c in others if c.name == _unet_name(size)) for size in (256, 512)}
    fits = nearest_fits()
    report = markdown(uvits, others, fits, unets)
    print(report)
    if options.output:
        rows = {"uvit": uvits, "peers": [{**asdict(c), "flops": c.flops} for c in others]}
        write_json(
            options.output / "compute_cost.json",
            {"unit": "one forward pass, one image", **rows, "fits": fits},
        )
        with atomic_path(options.output / "compute_cost.md") as path:
            path.write_text(report + "\n", encoding="utf-8")


def uvit_rows() -> Iterator[dict]:
    """Closed form and measurement of every preset at every text length. Call under the meta device."""
    for preset in PRESETS:
        for tokens in TEXT_TOKENS:
            model = UViT2DModel.from_preset(preset, sample_size=LATENT, text_dim=TEXT_DIM, text_tokens=tokens)
            inputs = (torch.zeros(1, 4, LATENT, LATENT), torch.zeros(1), torch.zeros(1, tokens, TEXT_DIM))
            cost = component_cost(preset, model, *inputs)
            closed = preset_macs(preset, tokens)
            yield {"preset": preset, "text_tokens": tokens, "parameters": cost.parameters,
                   "closed_form_macs": closed, "measured_macs": cost.macs}  # fmt: skip


def preset_macs(preset: str, tokens: int) -> int:
    """Closed form of one preset at 32x32 latents."""
    p = PRESETS[preset]
    return uvit_macs(p["hidden_size"], p["depth"], LATENT, p["patch_size"], tokens, text_dim=TEXT_DIM,
                     final_conv=p.get("final_conv", True))  # fmt: skip


def peers() -> list[ComponentCost]:
    """SD1.5's U-Net and decoder, and this package's small decoder. Call under the meta device."""
    unet, vae, small = UNet2DConditionModel(**SD15_UNET), AutoencoderKL(**SD15_VAE), SmallAutoencoderKL()
    text, step = torch.zeros(1, 77, 768), torch.zeros(1)
    side = 256 // small.downscale
    return [
        *(component_cost(_unet_name(size), unet, torch.zeros(1, 4, size // 8, size // 8), step, text)
          for size in (256, 512)),
        component_cost("SD1.5 decoder, 256 px", nn.Sequential(vae.post_quant_conv, vae.decoder),
                       torch.zeros(1, 4, 32, 32)),
        component_cost("SmallAutoencoderKL decoder (default), 256 px", _Decoder(small),
                       torch.zeros(1, small.config.latent_channels, side, side)),
    ]  # fmt: skip


class _Decoder(nn.Module):
    def __init__(self, autoencoder: SmallAutoencoderKL) -> None:
        super().__init__()
        self.inverse, self.decoder = autoencoder.inverse, autoencoder.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.inverse(latents) + self.decoder(latents)


def nearest_fits() -> list[dict]:
    """Per reading of the paper's figure: the nearest preset at usual and at any text lengths."""
    return [
        {"reading": reading, "text_lengths": lengths, **_nearest(PAPER_GFLOPS / per_mac, tokens)}
        for reading, per_mac in (("multiply-adds", 1), ("FLOPs", 2))
        for lengths, tokens in (("usual", TEXT_TOKENS), ("any up to 256", range(257)))
    ]  # fmt: skip


def _nearest(target_gmacs: float, lengths: range | tuple[int, ...]) -> dict:
    candidates = [(preset, n, preset_macs(preset, n) / 1e9) for preset in PRESETS for n in lengths]
    preset, tokens, gmacs = min(candidates, key=lambda c: abs(c[2] - target_gmacs))
    return {"target_gmacs": target_gmacs, "preset": preset, "text_tokens": tokens, "gmacs": gmacs,
            "relative_difference": gmacs / target_gmacs - 1}  # fmt: skip


def markdown(uvits: list[dict], others: list[ComponentCost], fits: list[dict], unets: dict[int, int]) -> str:
    """The report: one table, the fits and the ratios to Stable Diffusion."""
    lines = [
        "G multiply-adds of one forward pass of one image (FLOPs are twice that). U-ViT: 32x32x4 latents, "
        f"patch 2, text states of width {TEXT_DIM}.",
        "",
        "| network | text tokens | parameters, M | closed form | measured |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| U-ViT {r['preset']} | {r['text_tokens']} | {r['parameters'] / 1e6:.2f} "
          f"| {r['closed_form_macs'] / 1e9:.2f} | {r['measured_macs'] / 1e9:.2f} |" for r in uvits),
        *(f"| {c.name} | {77 if 'U-Net' in c.name else ''} | {c.parameters / 1e6:.2f} "
          f"| | {c.macs / 1e9:.2f} |" for c in others),
        "",
        f"Nearest to the paper's {PAPER_GFLOPS} G:",
        "",
        *(f"- read as {f['reading']} ({f['target_gmacs']:.3f} G multiply-adds), text lengths "
          f"{f['text_lengths']}: {f['preset']} with {f['text_tokens']} text tokens, {f['gmacs']:.2f} G "
          f"({f['relative_difference']:+.1%})." for f in fits),
        "",
        _ratios(unets),
    ]  # fmt: skip
    return "\n".join(lines)


def _ratios(unets: dict[int, int]) -> str:
    said = [
        f"{PAPER_GFLOPS * 1e9 / (unets[size] * per_mac):.2f} of it at {size} px read as {reading}"
        for reading, per_mac in (("multiply-adds", 1), ("FLOPs", 2))
        for size in (512, 256)
    ]
    return (
        f"Against SD1.5's U-Net the paper's figure is {', '.join(said)}. \"Nearly a third of SD\" therefore "
        "fits multiply-adds against SD at 512 px; at equal 256 px SD's U-Net takes fewer than the figure."
    )


def _unet_name(size: int) -> str:
    return f"SD1.5 U-Net, {size} px"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="folder for compute_cost.json and compute_cost.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
