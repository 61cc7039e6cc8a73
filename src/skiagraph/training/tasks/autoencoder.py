"""Training of the small KL autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor, nn

from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.training.images import (
    load_images,
    random_affine,
    random_indices,
    records_of,
    to_model_range,
    warp,
)
from skiagraph.training.recipe import AutoencoderRecipe


class AutoencoderTask:
    """The patch transform is computed from the training images; the decoder learns L1 of pixels and image gradients.

    It learns them from latents with noise of a random size, so that it also removes what a denoiser leaves behind.

    Gradients take the place of the usual perceptual term, whose networks cannot be had offline. The transform stays as
    it is, so latents do not depend on how long the decoder has trained.
    """

    def __init__(self, recipe: AutoencoderRecipe) -> None:
        self.recipe = recipe
        data = recipe.data
        records, val = (records_of(recipe, split) for split in ("train", "val"))
        shape = data.image_size, data.fit, recipe.model.in_channels
        self.train = load_images(records, *shape)
        self.weights = torch.tensor([recipe.sampling.get(r.dataset, 1.0) for r in records])
        self.val = load_images(val[:: max(1, len(val) // 128)], *shape)
        # The last-channel layout is what convolutions on a CPU are fastest in.
        self.model = SmallAutoencoderKL(**recipe.model.model_dump()).to(memory_format=torch.channels_last)
        self.model.set_transform(
            *patch_transform(self.train, self.weights, self.model.downscale, recipe.model.latent_channels)
        )
        self.model.encoder.requires_grad_(False)
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = random_indices(len(self.train), batch_size, generator, self.weights)
        images = to_model_range(self.train[chosen])
        images = warp(images, random_affine(batch_size, generator, rotate=5, zoom=0.1, shift=0.03)).to(self.device)
        latents = model.encode(images).latent_dist.mode()
        size = self.recipe.latent_noise * torch.rand(batch_size, 1, 1, 1, generator=generator)
        noise = torch.randn(latents.shape, generator=generator) * size
        decoded = model.decode(latents + noise.to(latents)).sample.float()
        l1, edges = F.l1_loss(decoded, images), edge_distance(decoded, images)
        return l1 + self.recipe.edge_weight * edges, {"l1": l1, "edges": edges}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """PSNR of reconstructions, and of the linear part alone."""
        full, linear = [], []
        for chunk in self.val.split(16):
            images = to_model_range(chunk).to(self.device)
            latents = model.encode(images).latent_dist.mode()
            full.append(_squared_error(model.decode(latents).sample, images))
            linear.append(_squared_error(model.inverse(latents), images))
        return {"val_psnr": _psnr(full), "val_psnr_linear": _psnr(linear)}

    def export(self, model: nn.Module, folder: Path) -> None:
        model.half().save_pretrained(folder)


MAXIMUM_STD = 2.0
"""Largest standard deviation of a latent channel; with more, the last step's noise would not hide a patch's mean."""


def patch_transform(images: Tensor, weights: Tensor, side: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """The Karhunen-Loeve transform of image patches: (basis, gain, mean) for `SmallAutoencoderKL.set_transform`.

    Latent channels get standard deviations in proportion to the square root of the coefficients' own, cut at
    `MAXIMUM_STD`, with mean square 1: between whitening, which would make fine detail as important as the
    picture's plan, and none, which would leave almost nothing but the patch means.

    Args:
        images: uint8 (n, c, H, W).
        weights: (n,) of each image.
        side: of a patch in pixels.
        channels: coefficients kept of each patch.
    """
    shares = weights / weights.sum()
    mean = sum(s @ to_model_range(i).mean(dim=(2, 3)) for i, s in _chunks(images, shares))
    size = images.shape[1] * side**2
    covariance = torch.zeros(size, size, dtype=torch.float64)
    for chunk, share in _chunks(images, shares):
        centred = to_model_range(chunk) - mean.view(-1, 1, 1)
        patches = rearrange(centred, "n c (h a) (w b) -> n (h w) (c a b)", a=side, b=side)
        covariance += torch.einsum("npi,npj,n->ij", patches, patches, share / patches.shape[1]).double()
    variance, basis = torch.linalg.eigh(covariance)
    std = variance.flip(0)[:channels].clamp_min(1e-12).sqrt()
    wanted = _unit_mean_square(std.sqrt())
    return basis.flip(1)[:, :channels].float(), (wanted / std).float(), mean


def _unit_mean_square(spread: Tensor) -> Tensor:
    """Values in proportion to `spread`, cut at `MAXIMUM_STD`, whose squares have mean 1."""
    for _ in range(50):
        spread = (spread / spread.square().mean().sqrt()).clamp_max(MAXIMUM_STD)
    return spread


def _chunks(images: Tensor, shares: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(images.split(64), shares.split(64), strict=True)


def _squared_error(decoded: Tensor, images: Tensor) -> Tensor:
    return (decoded.float().clamp(-1, 1) - images).square().mean(dim=(1, 2, 3))


def _psnr(errors: list[Tensor]) -> float:
    return float((10 * torch.log10(4 / torch.cat(errors))).mean())


def edge_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean L1 distance of horizontal and vertical differences at full, half and quarter size, (n, c, h, w)."""
    difference, total = a - b, a.new_zeros(())
    for _ in range(3):
        total = total + difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
    return total / 3
