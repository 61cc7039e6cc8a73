"""Records to tensors in memory, and random batches of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Generator, Tensor

from skiagraph.data.datasets import Record, load_records
from skiagraph.data.images import read_planes, square
from skiagraph.domains.domain import load_domain
from skiagraph.errors import DataError
from skiagraph.training.recipe import Recipe


def records_of(recipe: Recipe, split: str) -> list[Record]:
    """The records of one split that a recipe trains or validates on, with labels of its domain; never empty."""
    data, labels = recipe.data, load_domain(recipe.domain).labels
    records = load_records(data.datasets, data.root, splits=[split], labels=labels)[: data.limit]
    if not records:
        raise DataError(f"no {split} images in {', '.join(data.datasets)}")
    return records


def record_weight(record: Record, sampling: dict[str, float]) -> float:
    """How often a record is drawn: its dataset's weight times the largest of its labels'; 1 for what is not named."""
    return sampling.get(record.dataset, 1.0) * max([sampling.get(name, 1.0) for name in record.labels] or [1.0])


def load_images(records: Sequence[Record], size: int, fit: str, channels: int = 1) -> Tensor:
    """All images as one uint8 tensor (n, channels, size, size): 1 for radiographs, 3 for colours."""
    images = torch.empty(len(records), channels, size, size, dtype=torch.uint8)
    for index, record in enumerate(track(records, "reading images", transient=True)):
        planes = [square(plane, size, fit=fit) for plane in read_planes(record.path, channels)]
        images[index] = torch.from_numpy(np.round(np.stack(planes) * 255).astype(np.uint8))
    return images


def to_model_range(images: Tensor) -> Tensor:
    """uint8 (n, c, h, w) to float32 in [-1, 1], the range of every network here."""
    return images.float() / 127.5 - 1


def random_indices(count: int, size: int, generator: Generator, weights: Tensor | None = None) -> Tensor:
    """`size` indices below `count`, drawn with replacement, by `weights` where given."""
    if weights is None:
        return torch.randint(count, (size,), generator=generator)
    return torch.multinomial(weights, size, replacement=True, generator=generator)


def random_affine(
    batch: int, generator: Generator, *, rotate: float, zoom: float, shift: float, mirror: bool = False,
    stretch: float = 0.0,
) -> Tensor:  # fmt: skip
    """Sampling grids' matrices (batch, 2, 3): rotation in degrees, zoom as a share, shift as a share of the side.

    With `mirror` each of the two axes is flipped as often as not; `stretch` makes one longer against the other, as a
    share.
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(batch, generator=generator) * 2 - 1) * limit

    angle, scale = torch.deg2rad(uniform(rotate)), 1 + uniform(zoom)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    dx, dy = uniform(2 * shift), uniform(2 * shift)
    matrices = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
    if stretch:
        longer = torch.exp(uniform(stretch) / 2)
        matrices[..., :2] *= torch.stack([longer, 1 / longer], 1)[:, None]
    if mirror:
        matrices[..., :2] *= torch.randint(2, (batch, 1, 2), generator=generator) * 2 - 1
    return matrices


def warp(images: Tensor, matrices: Tensor, mode: str = "bilinear", padding: str = "border") -> Tensor:
    """Float images (n, c, h, w) moved by `random_affine` matrices; outside, the border repeats or zeros stand."""
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def random_intensity(
    images: Tensor, generator: Generator, *, contrast: float, brightness: float, gamma: float
) -> Tensor:
    """Per-image contrast, brightness and gamma changes of images in [-1, 1]; clipped to that range."""

    def uniform(limit: float) -> Tensor:
        return ((torch.rand(len(images), generator=generator) * 2 - 1) * limit)[:, None, None, None].to(images.device)

    curved = ((images + 1) / 2).clamp(0, 1) ** torch.exp(uniform(gamma)) * 2 - 1
    return (curved * (1 + uniform(contrast)) + uniform(brightness)).clamp(-1, 1)


def random_roughness(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Images in [-1, 1] with what other machines do to them: smooth shading, less sharpness and noise, each at random.

    Args:
        images: float (n, c, h, w).
        generator: of the random numbers, on the CPU.
        strength: 1 is shading of up to 0.3, blurring to a third of the size in half of the images, and noise of up to
            0.1.
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(len(images), generator=generator) * limit)[:, None, None, None].to(images.device)

    n, _, height, width = images.shape
    coarse = torch.randn(n, 1, 4, 4, generator=generator).to(images.device)
    shading = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    small = F.interpolate(images, scale_factor=1 / 3, mode="bilinear", antialias=True)
    soft = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
    softness = (uniform(2 * strength) - strength).clamp(0, 1)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    rough = images + softness * (soft - images) + uniform(0.3 * strength) * shading + uniform(0.1 * strength) * noise
    return rough.clamp(-1, 1)
