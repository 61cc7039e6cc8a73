"""Training of the small KL autoencoder."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
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
    """L1 of pixels and of image gradients at three scales, with a slight KL term (Rombach et al. 2022, section 3.1).

    Gradients take the place of the usual perceptual and adversarial terms, whose networks cannot be had offline.
    """

    def __init__(self, recipe: AutoencoderRecipe) -> None:
        self.recipe = recipe
        # The last-channel layout is what convolutions on a CPU are fastest in.
        self.model = SmallAutoencoderKL(**recipe.model.model_dump()).to(memory_format=torch.channels_last)
        data = recipe.data
        records, val = records_of(data, "train"), records_of(data, "val")
        self.train = load_images(records, data.image_size, data.fit)
        self.weights = torch.tensor([recipe.sampling.get(r.dataset, 1.0) for r in records])
        self.val = load_images(val[:: max(1, len(val) // 128)], data.image_size, data.fit)
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = random_indices(len(self.train), batch_size, generator, self.weights)
        images = to_model_range(self.train[chosen])
        images = warp(images, random_affine(batch_size, generator, rotate=5, zoom=0.1, shift=0.03)).to(self.device)
        decoded, posterior = model(images, generator=generator)
        decoded = decoded.float()
        l1 = F.l1_loss(decoded, images)
        edges = edge_distance(decoded, images)
        kl = posterior.kl().float().mean() / images[0].numel()
        total = l1 + self.recipe.edge_weight * edges + self.recipe.kl_weight * posterior.kl().float().mean()
        return total, {"l1": l1, "edges": edges, "kl": kl}

    def validate(self, model: nn.Module) -> dict[str, float]:
        errors = []
        for chunk in self.val.split(16):
            images = to_model_range(chunk).to(self.device)
            decoded = model.decode(model.encode(images).latent_dist.mode()).sample.float()
            errors.append((decoded.clamp(-1, 1) - images).square().mean(dim=(1, 2, 3)))
        return {"val_psnr": float((10 * torch.log10(4 / torch.cat(errors))).mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        scale, shift = latent_statistics(model, self.train[:: max(1, len(self.train) // 512)], self.device)
        model.register_to_config(scaling_factor=scale, shift_factor=shift)
        model.half().save_pretrained(folder)


def edge_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean L1 distance of horizontal and vertical differences at full, half and quarter size, (n, c, h, w)."""
    difference, total = a - b, a.new_zeros(())
    for _ in range(3):
        total = total + difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        difference = F.avg_pool2d(difference, 2)
    return total / 3


@torch.no_grad()
def latent_statistics(model: nn.Module, images: Tensor, device: torch.device) -> tuple[float, float]:
    """(1 / standard deviation, mean) over all latents of uint8 images: the autoencoder's scale and shift."""
    chunks = [model.encode(to_model_range(c).to(device)).latent_dist.mode().float() for c in images.split(16)]
    latents = torch.cat(chunks)
    return float(1 / latents.std()), float(latents.mean())
