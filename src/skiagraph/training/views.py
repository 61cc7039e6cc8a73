"""Full views and crops of training images with everything a caption needs: latents, scores and region maps.

`FreshViews` moves and encodes images anew in every batch, for autoencoders whose encoder costs next to nothing.
`CachedViews` are three views of each image, encoded once, for the others. Label maps and scores are found once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from skiagraph.data.datasets import Record
from skiagraph.domains.domain import Cohorts, Domain, Scores
from skiagraph.files import atomic_path
from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.training.images import load_images, random_affine, to_model_range, warp

FULL, MOVED, CROP = 0, 1, 2
"""Kinds of view: as it is, slightly turned, zoomed and shifted, and a close-up."""


REGION_SIDE = 64
"""Side of the region maps that fresh views are cut from."""


FREE_OF_MARKERS = 0.1
"""Less than this share of any of its small pixels, and a latent pixel shows no marker."""


@dataclass(frozen=True)
class ViewBatch:
    """Views of some radiographs.

    moments: (n, 2 * latent channels, h, w), posterior mean and log variance.
    regions: (n, regions, h, w) in [0, 1], share of each latent pixel inside each of the domain's regions.
    shown: (n, regions) in [0, 1], how much of each region the view shows; 0 where it is unknown.
    counted: (n, 1, h, w), 0 where a latent pixel shows what the domain calls markers, else 1.
    """

    moments: Tensor
    regions: Tensor
    shown: Tensor
    counted: Tensor


class Views(Protocol):
    """Views of n radiographs, `scores` per radiograph (None where unknown) and the normal `cohorts` they refer to."""

    scores: Sequence[Scores | None]
    cohorts: Cohorts

    def batch(self, chosen: Tensor, kinds: Tensor, generator: Generator) -> ViewBatch:
        """Views of the radiographs `chosen` (n,), each of its kind (`FULL`, `MOVED`, `CROP`)."""


@dataclass(frozen=True)
class CachedViews:
    """Three views of each of n radiographs.

    moments: (kinds, n, 2 * latent channels, h, w) float16.
    regions: (kinds, n, regions, h, w) uint8, 255 times the share.
    shown: (kinds, n, regions) float32.
    counted: (kinds, n, 1, h, w) bool.
    """

    moments: Tensor
    regions: Tensor
    shown: Tensor
    counted: Tensor
    scores: Sequence[Scores | None]
    cohorts: Cohorts

    def batch(self, chosen: Tensor, kinds: Tensor, generator: Generator) -> ViewBatch:
        """The stored views; nothing is random."""
        return ViewBatch(
            self.moments[kinds, chosen].float(), self.regions[kinds, chosen].float() / 255, self.shown[kinds, chosen],
            self.counted[kinds, chosen].float(),
        )  # fmt: skip


@dataclass(frozen=True)
class FreshViews:
    """Views made anew for every batch, on the autoencoder's device.

    images: uint8 (n, 1, S, S).
    regions: uint8 (n, regions, `REGION_SIDE`, `REGION_SIDE`), 255 times the share.
    markers: uint8 (n, 1, `REGION_SIDE`, `REGION_SIDE`), the same of markers.
    """

    images: Tensor
    regions: Tensor
    markers: Tensor
    scores: Sequence[Scores | None]
    cohorts: Cohorts
    autoencoder: nn.Module

    @torch.no_grad()
    def batch(self, chosen: Tensor, kinds: Tensor, generator: Generator) -> ViewBatch:
        """Images moved at random, each by its kind, and encoded."""
        device = next(self.autoencoder.parameters()).device
        matrices, zoom = (t.to(device) for t in random_views(kinds, generator))
        moved = warp(to_model_range(self.images[chosen].to(device)), matrices)
        whole = self.regions[chosen].to(device).float() / 255
        regions = warp(whole, matrices, padding="zeros")
        moments = _moments(self.autoencoder, moved)
        shown = shown_share(whole.sum(dim=(-1, -2)), regions.sum(dim=(-1, -2)), zoom)
        markers = warp(self.markers[chosen].to(device).float() / 255, matrices, padding="zeros")
        side = moments.shape[-1]
        return ViewBatch(moments, F.adaptive_avg_pool2d(regions, side), shown.cpu(), counted_where(markers, side))


def random_views(kinds: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Matrices (n, 2, 3) for `warp`, and the zoom (n,), of views of the given kinds."""
    n = len(kinds)
    by_kind = torch.stack(
        [
            random_affine(n, generator, rotate=0, zoom=0, shift=0),
            random_affine(n, generator, rotate=5, zoom=0.08, shift=0.03),
            random_affine(n, generator, rotate=0, zoom=0, shift=0.24),
        ]
    )
    zoom = torch.where(kinds == CROP, 0.4 + 0.35 * torch.rand(n, generator=generator), 1.0)
    matrices = by_kind[kinds, torch.arange(n)]
    matrices[:, :, :2] *= zoom[:, None, None]
    return matrices, zoom


def shown_share(before: Tensor, after: Tensor, zoom: Tensor) -> Tensor:
    """Share (n, regions) of each region in view, from areas before and after, and the zoom (n,); 0 where unknown."""
    known = (before.amin(dim=1, keepdim=True) > 0).float()
    return (after * zoom[:, None] ** 2 / before.clamp_min(1) * known).clamp(0, 1)


def counted_where(markers: Tensor, side: int) -> Tensor:
    """1 where a latent pixel (n, 1, side, side) shows none of `markers` (n, 1, H, W) in [0, 1], else 0."""
    return (F.adaptive_max_pool2d(markers, side) < FREE_OF_MARKERS).float()


def make_views(
    records: Sequence[Record],
    size: int,
    fit: str,
    autoencoder: nn.Module,
    find: Callable[[Tensor], Tensor],
    cohorts: Cohorts | None,
    seed: int,
    domain: Domain,
    *,
    cache: Path,
    identity: str,
) -> Views:
    """Fresh views where the autoencoder's encoder is linear, else cached ones; `find` is a `lung_finder`.

    Images, regions and scores, or latents, are kept in the file `cache`, made by the main process, on the autoencoder's
    device, where it was not made for the same `identity`. All processes read the one file, page by page as they need
    it. Cached views are deterministic in `seed`.
    """
    fresh = isinstance(autoencoder, SmallAutoencoderKL)

    def compute() -> tuple[dict[str, Tensor], dict]:
        images = load_images(records, size, fit, 3 if domain.colour else 1)
        label_maps = find(images)
        scores, fitted = domain.scores(records, images[:, 0].numpy(), label_maps.numpy(), cohorts)
        markers = _small_markers(images, domain)
        kept = {"images": images, "regions": _small_regions(label_maps, domain), "markers": markers}
        tensors = kept if fresh else _three_views(images, label_maps, markers, autoencoder, seed, domain)
        return tensors, {"scores": scores, "cohorts": fitted}

    with PartialState().main_process_first():
        tensors, meta = _cached(
            cache, f"{identity} {fresh} {domain.measures} images, markers {domain.markers is not None}", compute
        )
    if fresh:
        return FreshViews(autoencoder=autoencoder, **tensors, **meta)
    return CachedViews(**tensors, **meta)


def _cached(
    path: Path, identity: str, compute: Callable[[], tuple[dict[str, Tensor], dict]]
) -> tuple[dict[str, Tensor], dict]:
    key = hashlib.sha256(identity.encode()).hexdigest()
    meta_path = path.with_suffix(".json")
    if path.is_file() and meta_path.is_file():
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        if meta.pop("key") == key:
            return load_file(path), meta
    tensors, meta = compute()
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
    with atomic_path(meta_path) as temporary:
        temporary.write_text(json.dumps({"key": key, **meta}), encoding="utf-8")
    return load_file(path), meta


@torch.no_grad()
def _three_views(
    images: Tensor, label_maps: Tensor, markers: Tensor, autoencoder: nn.Module, seed: int, domain: Domain
) -> dict[str, Tensor]:
    generator = Generator().manual_seed(seed)
    found, before = [], None
    for kind in (FULL, MOVED, CROP):
        matrices, zoom = random_views(torch.full((len(images),), kind), generator)
        moments, small, areas = _view(images, label_maps, matrices, autoencoder, domain)
        before = areas if kind == FULL else before
        moved = warp(markers.float() / 255, matrices, padding="zeros")
        counted = counted_where(moved, moments.shape[-1]).bool()
        found.append((moments, small, shown_share(before, areas, zoom), counted))
    return {
        name: torch.stack(parts).contiguous()
        for name, parts in zip(("moments", "regions", "shown", "counted"), zip(*found, strict=True), strict=True)
    }


def _view(
    images: Tensor, label_maps: Tensor, matrices: Tensor, autoencoder: nn.Module, domain: Domain
) -> tuple[Tensor, Tensor, Tensor]:
    """Latent moments, small region maps and region areas in pixels of moved images."""
    moments, small, areas = [], [], []
    device = next(autoencoder.parameters()).device
    for start in track(range(0, len(images), 32), "encoding views", transient=True):
        part = slice(start, start + 32)
        moved = warp(to_model_range(images[part]), matrices[part])
        moments.append(_moments(autoencoder, moved.to(device)).half().cpu())
        masks = torch.stack([_stack(row, images.shape[-1], domain) for row in label_maps[part]])
        masks = warp(masks, matrices[part], mode="nearest", padding="zeros")
        areas.append(masks.sum(dim=(-1, -2)))
        small.append(_shares(masks, moments[-1].shape[-1]))
    return torch.cat(moments), torch.cat(small), torch.cat(areas)


def _moments(autoencoder: nn.Module, images: Tensor) -> Tensor:
    """Posterior mean and log variance of images (n, 1, H, W), as many channels as the autoencoder takes."""
    with torch.autocast(images.device.type, enabled=False):
        return autoencoder.encode(images.expand(-1, autoencoder.config.in_channels, -1, -1)).latent_dist.parameters


def _small_regions(label_maps: Tensor, domain: Domain) -> Tensor:
    maps = torch.zeros(len(label_maps), len(domain.regions), REGION_SIDE, REGION_SIDE, dtype=torch.uint8)
    for row, found in zip(maps, label_maps, strict=True):
        whole = _stack(found, label_maps.shape[-1], domain)
        row.copy_(_shares(whole, REGION_SIDE))
    return maps


def _small_markers(images: Tensor, domain: Domain) -> Tensor:
    maps = torch.zeros(len(images), 1, REGION_SIDE, REGION_SIDE, dtype=torch.uint8)
    if domain.markers is None:
        return maps
    for row, image in zip(maps, track(images, "finding markers", transient=True), strict=True):
        found = torch.from_numpy(domain.markers(image[0].numpy() / 255)).float()
        row.copy_(_shares(found[None], REGION_SIDE))
    return maps


def _shares(masks: Tensor, side: int) -> Tensor:
    """255 times the share of each of side x side pixels that masks (..., H, W) in [0, 1] cover, uint8."""
    return (F.adaptive_avg_pool2d(masks, side) * 255).round().to(torch.uint8)


def _stack(found: Tensor, size: int, domain: Domain) -> Tensor:
    regions = domain.regions_of(found.numpy())
    if regions is None:
        return torch.zeros(len(domain.regions), size, size)
    return torch.from_numpy(np.stack([regions[name] for name in domain.regions])).float()
