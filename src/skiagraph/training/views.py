"""Full views and crops of training images with everything a caption needs: latents, facts and region maps.

Computed once and cached, because the autoencoder and the lung segmenter stay frozen while the denoiser trains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Generator, Tensor, nn

from skiagraph.data.anatomy import REGIONS, regions_of
from skiagraph.data.captions import Fact, facts_in_crop, facts_of
from skiagraph.data.datasets import Record
from skiagraph.data.measure import Cohorts, cohort_name, fit_cohorts, measure, standard_scores
from skiagraph.errors import DataError
from skiagraph.files import atomic_path
from skiagraph.models.lung_segmenter import LungSegmenter
from skiagraph.training.images import load_images, random_affine, to_model_range, warp

FULL, MOVED, CROP = 0, 1, 2
"""Kinds of view: as it is, slightly turned, zoomed and shifted, and a close-up."""


@dataclass(frozen=True)
class Views:
    """Cached views of n radiographs.

    moments: (kinds, n, 2 * latent channels, h, w) float16, posterior mean and log variance.
    regions: (kinds, n, regions, h, w) uint8, share of each latent pixel inside the region times 255.
    facts: per kind and radiograph, what a caption may say.
    """

    moments: Tensor
    regions: Tensor
    facts: list[list[list[Fact]]]

    def __len__(self) -> int:
        return self.moments.shape[1]


def find_lungs(segmenter: LungSegmenter, images: Tensor) -> list[dict[str, np.ndarray] | None]:
    """Regions of each uint8 image (n, 1, H, W); None where a lung was not found."""
    found: list[dict[str, np.ndarray] | None] = []
    for chunk in images.split(32):
        for classes in segmenter.segment(to_model_range(chunk).to(segmenter.device)).cpu().numpy():
            try:
                found.append(regions_of(_largest(classes == 1), _largest(classes == 2)))
            except DataError:
                found.append(None)
    return found


def score_images(
    records: Sequence[Record],
    images: Tensor,
    regions: Sequence[dict[str, np.ndarray] | None],
    cohorts: Cohorts | None = None,
) -> tuple[list[dict[str, float] | None], Cohorts]:
    """Standard scores of every radiograph and the normal cohorts they refer to.

    Cohorts are fitted on the records labelled normal unless given. Scores are None where a lung was not found, and
    everywhere where there is no cohort to compare with, as in a dataset of reports without labels.
    """
    raw = [
        None if region is None else measure(image[0].numpy().astype(np.float32) / 255, region)
        for image, region in zip(images, regions, strict=True)
    ]
    if cohorts is None:
        normal = [
            (cohort_name(r.is_child, r.view), m)
            for r, m in zip(records, raw, strict=True)
            if m and "normal" in r.labels
        ]
        cohorts = fit_cohorts(normal)
    known = list(cohorts)
    scores = [
        None if m is None or not known else standard_scores(m, cohorts[cohort_name(r.is_child, r.view, known)])
        for r, m in zip(records, raw, strict=True)
    ]
    return scores, cohorts


@torch.no_grad()
def make_views(
    records: Sequence[Record],
    size: int,
    fit: str,
    autoencoder: nn.Module,
    segmenter: LungSegmenter,
    cohorts: Cohorts | None,
    seed: int,
) -> tuple[Views, Cohorts]:
    """Compute the three kinds of view of all records; deterministic in `seed`."""
    images = load_images(records, size, fit)
    regions = find_lungs(segmenter, images)
    scores, cohorts = score_images(records, images, regions, cohorts)
    facts = [facts_of(r, s) if s else _unmeasured(r) for r, s in zip(records, scores, strict=True)]
    generator = Generator().manual_seed(seed)
    matrices = [
        random_affine(len(records), generator, rotate=0, zoom=0, shift=0),
        random_affine(len(records), generator, rotate=5, zoom=0.08, shift=0.03),
        random_affine(len(records), generator, rotate=0, zoom=0, shift=0.24),
    ]
    zoom = 0.4 + 0.35 * torch.rand(len(records), generator=generator)
    matrices[CROP][:, :, :2] *= zoom[:, None, None]
    kinds = [_view(images, regions, m, autoencoder) for m in matrices]
    crop_facts = [
        facts_in_crop(f, shares) for f, shares in zip(facts, _shares(regions, kinds[CROP][2], zoom), strict=True)
    ]
    return Views(
        moments=torch.stack([k[0] for k in kinds]),
        regions=torch.stack([k[1] for k in kinds]),
        facts=[facts, facts, crop_facts],
    ), cohorts


def cached_views(path: Path, identity: str, compute) -> tuple[Views, Cohorts]:
    """Views from the cache file `path` where it was made for the same `identity`; else computed and stored."""
    key = hashlib.sha256(identity.encode()).hexdigest()
    meta_path = path.with_suffix(".json")
    if path.is_file() and meta_path.is_file():
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        if meta["key"] == key:
            tensors = load_file(path)
            facts = [[[Fact(**f) for f in one] for one in kind] for kind in meta["facts"]]
            return Views(tensors["moments"], tensors["regions"], facts), meta["cohorts"]
    views, cohorts = compute()
    with atomic_path(path) as temporary:
        save_file({"moments": views.moments, "regions": views.regions}, temporary)
    facts = [[[asdict(f) for f in one] for one in kind] for kind in views.facts]
    with atomic_path(meta_path) as temporary:
        temporary.write_text(json.dumps({"key": key, "cohorts": cohorts, "facts": facts}), encoding="utf-8")
    return views, cohorts


def _view(images: Tensor, regions: Sequence[dict | None], matrices: Tensor, autoencoder: nn.Module) -> tuple:
    moments, small, areas = [], [], []
    device = next(autoencoder.parameters()).device
    for start in track(range(0, len(images), 32), "encoding views", transient=True):
        part = slice(start, start + 32)
        moved = warp(to_model_range(images[part]), matrices[part])
        moved = moved.expand(-1, autoencoder.config.in_channels, -1, -1)
        posterior = autoencoder.encode(moved.to(device)).latent_dist
        moments.append(posterior.parameters.half().cpu())
        masks = torch.stack([_stack(r, images.shape[-1]) for r in regions[part]])
        masks = warp(masks, matrices[part], mode="nearest", padding="zeros")
        areas.append(masks.sum(dim=(-1, -2)))
        small.append((F.adaptive_avg_pool2d(masks, moments[-1].shape[-1]) * 255).round().to(torch.uint8))
    return torch.cat(moments), torch.cat(small), torch.cat(areas)


def _stack(regions: dict[str, np.ndarray] | None, size: int) -> Tensor:
    if regions is None:
        return torch.zeros(len(REGIONS), size, size)
    return torch.from_numpy(np.stack([regions[name] for name in REGIONS])).float()


def _shares(regions: Sequence[dict | None], areas: Tensor, zoom: Tensor) -> list[dict[str, float]]:
    """Share of each region that a crop shows: its area there, at the crop's magnification, over its area before."""
    return [
        {} if r is None else {n: float(a * z**2 / max(1, r[n].sum())) for n, a in zip(REGIONS, area, strict=True)}
        for r, area, z in zip(regions, areas, zoom, strict=True)
    ]


def _unmeasured(record: Record) -> list[Fact]:
    return [Fact(label) for label in sorted(record.labels)]


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    return mask if count < 2 else labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
