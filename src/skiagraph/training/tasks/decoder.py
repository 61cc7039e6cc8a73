"""Sharpening of an autoencoder's decoder with a patch discriminator, its encoder and so its latents unchanged."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call

from skiagraph.models.registry import load_component
from skiagraph.training.images import (
    load_images,
    random_affine,
    random_indices,
    records_of,
    to_model_range,
    warp,
)
from skiagraph.training.recipe import DecoderRecipe
from skiagraph.training.tasks.autoencoder import edge_distance

DETAIL_GAIN = 10.0
"""Brings fine detail of images in [-1, 1] to about unit size."""


class PatchDiscriminator(nn.Module):
    """Says of every patch of an image whether it looks real (Isola et al. 2017, arXiv 1611.07004, section 3.2.2).

    It also gets the image's fine detail as a channel of its own, which is what decoders lack; without it, it does not
    keep up with the decoder.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        widths = [channels, 2 * channels, 4 * channels]
        layers: list[nn.Module] = [nn.Conv2d(2, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(8, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (batch, 1, h, w) of images (batch, 1, H, W) in [-1, 1]; high is real."""
        return self.layers(torch.cat([images, DETAIL_GAIN * (images - _blurred(images, 5))], dim=1))


class DecoderTask:
    """L1 and edge loss plus a hinge adversarial loss, balanced by gradient size (Esser et al. 2021, Eq. 7).

    Both players share one optimiser: each one's loss sees the other's weights detached.
    """

    def __init__(self, recipe: DecoderRecipe) -> None:
        self.recipe = recipe
        autoencoder = load_component(recipe.autoencoder)
        autoencoder.encoder.requires_grad_(False)
        self.model = nn.ModuleDict({"autoencoder": autoencoder, "discriminator": PatchDiscriminator()})
        data = recipe.data
        self.train = load_images(records_of(data, "train"), data.image_size, data.fit)
        val = records_of(data, "val")
        self.val = load_images(val[:: max(1, len(val) // 128)], data.image_size, data.fit)
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        autoencoder, discriminator = model["autoencoder"], model["discriminator"]
        real = to_model_range(self.train[random_indices(len(self.train), batch_size, generator)])
        real = warp(real, random_affine(batch_size, generator, rotate=5, zoom=0.1, shift=0.03)).to(self.device)
        with torch.no_grad():
            latents = autoencoder.encode(real).latent_dist.sample(generator)
        fake = autoencoder.decode(latents).sample.float()
        l1, edges = F.l1_loss(fake, real), edge_distance(fake, real)
        reconstruction = l1 + self.recipe.edge_weight * edges

        frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
        adversarial = -functional_call(discriminator, frozen, (fake,)).float().mean()
        balance = _gradient_ratio(reconstruction, adversarial, autoencoder.decoder[-1].weight)
        on_real = F.relu(1 - discriminator(real).float()).mean()
        on_fake = F.relu(1 + discriminator(fake.detach()).float()).mean()
        critic = (on_real + on_fake) / 2
        total = reconstruction + self.recipe.adversarial_weight * balance * adversarial + critic
        return total, {"l1": l1, "edges": edges, "critic": critic, "balance": balance}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """PSNR, and fine-detail energy of reconstructions over that of the originals (1 = as sharp)."""
        autoencoder = model["autoencoder"]
        errors, detail = [], []
        for chunk in self.val.split(16):
            images = to_model_range(chunk).to(self.device)
            decoded = autoencoder.decode(autoencoder.encode(images).latent_dist.mode()).sample.float().clamp(-1, 1)
            errors.append((decoded - images).square().mean(dim=(1, 2, 3)))
            detail.append(_fine_detail(decoded) / _fine_detail(images))
        return {
            "val_psnr": float((10 * torch.log10(4 / torch.cat(errors))).mean()),
            "val_detail": float(torch.cat(detail).mean()),
        }

    def export(self, model: nn.Module, folder: Path) -> None:
        model["autoencoder"].half().save_pretrained(folder)


def _gradient_ratio(reconstruction: Tensor, adversarial: Tensor, weight: Tensor) -> Tensor:
    first = torch.autograd.grad(reconstruction, weight, retain_graph=True)[0].norm()
    second = torch.autograd.grad(adversarial, weight, retain_graph=True)[0].norm()
    return (first / (second + 1e-6)).clamp(0, 1e3).detach()


def _fine_detail(images: Tensor) -> Tensor:
    """Mean absolute difference to a 3x3 blur, per image."""
    return (images - _blurred(images, 3)).abs().mean(dim=(1, 2, 3))


def _blurred(images: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(images, side, stride=1, padding=side // 2)
