"""Full views and crops of training images with everything a caption needs: latents, facts and region maps.

Computed once and cached, because the autoencoder and the lung segmenter stay frozen while the denoiser trains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from skiagraph.data.anatomy import REGIONS
from skiagraph.data.captions import Fact, facts_in_crop, facts_of, facts_unmeasured
from skiagraph.data.datasets import Record
from skiagraph.data.measure import MEASURE_NAMES, Cohorts, cohort_name, fit_cohorts, measure, standard_scores
from skiagraph.files import atomic_path
from skiagraph.pipelines.organs import regions_of_lungs
from skiagraph.training.images import load_images, random_affine, to_model_range, warp

FULL, MOVED, CROP = 0, 1, 2
"""Kinds of view: as it is, slightly turned, zoomed and shifted, and a close-up."""


@dataclass(frozen=True)
class Views:
    """Cached views of n radiographs.

    moments: (kinds, n, 2 * latent channels, h, w) float16, posterior mean and log variance.
    regions: (kinds, n, regions, h, w) uint8, share of each latent pixel inside the region times 255.
    scores: per radiograph its standard scores, None where there is nothing to compare with.
    in_crop: per radiograph the share of each region that its close-up shows, empty where the regions are unknown.
    cohorts: the normal cohorts that the scores refer to.
    """

    moments: Tensor
    regions: Tensor
    scores: list[Mapping[str, float] | None]
    in_crop: list[Mapping[str, float]]
    cohorts: Cohorts

    def __len__(self) -> int:
        return self.moments.shape[1]

    def facts(self, records: Sequence[Record]) -> list[list[list[Fact]]]:
        """Per kind and radiograph, what a caption may say."""
        full = [facts_of(r, s) if s else facts_unmeasured(r) for r, s in zip(records, self.scores, strict=True)]
        return [full, full, [facts_in_crop(f, shares) for f, shares in zip(full, self.in_crop, strict=True)]]


def score_images(
    records: Sequence[Record], images: Tensor, lungs: Tensor, cohorts: Cohorts | None = None
) -> tuple[list[dict[str, float] | None], Cohorts]:
    """Standard scores of every radiograph and the normal cohorts they refer to.

    Cohorts are fitted on the records labelled normal unless given. Scores are None where a lung was not found, and
    everywhere where there is no cohort to compare with, as in a dataset of reports without labels.
    """
    raw = []
    for image, found in zip(images, lungs, strict=True):
        regions = regions_of_lungs(found)
        raw.append(None if regions is None else measure(image[0].numpy().astype(np.float32) / 255, regions))
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
    find: Callable[[Tensor], Tensor],
    cohorts: Cohorts | None,
    seed: int,
) -> Views:
    """Compute the three kinds of view of all records; `find` is a `lung_finder`; deterministic in `seed`."""
    images = load_images(records, size, fit)
    lungs = find(images)
    scores, cohorts = score_images(records, images, lungs, cohorts)
    generator = Generator().manual_seed(seed)
    matrices = [
        random_affine(len(records), generator, rotate=0, zoom=0, shift=0),
        random_affine(len(records), generator, rotate=5, zoom=0.08, shift=0.03),
        random_affine(len(records), generator, rotate=0, zoom=0, shift=0.24),
    ]
    zoom = 0.4 + 0.35 * torch.rand(len(records), generator=generator)
    matrices[CROP][:, :, :2] *= zoom[:, None, None]
    kinds = [_view(images, lungs, m, autoencoder) for m in matrices]
    before, cropped = kinds[FULL][2], kinds[CROP][2] * zoom[:, None] ** 2
    shares = (cropped / before.clamp_min(1)).tolist()
    known = (before.amin(dim=1) > 0).tolist()
    return Views(
        moments=torch.stack([k[0] for k in kinds]),
        regions=torch.stack([k[1] for k in kinds]),
        scores=scores,
        in_crop=[dict(zip(REGIONS, s, strict=True)) if k else {} for s, k in zip(shares, known, strict=True)],
        cohorts=cohorts,
    )


def cached_views(path: Path, identity: str, compute: Callable[[], Views]) -> Views:
    """Views from the cache file `path` where it was made for the same `identity`; else computed and stored."""
    key = hashlib.sha256(f"{identity} {MEASURE_NAMES}".encode()).hexdigest()
    meta_path = path.with_suffix(".json")
    if path.is_file() and meta_path.is_file():
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        if meta.pop("key") == key:
            return Views(**load_file(path), **meta)
    views = compute()
    with atomic_path(path) as temporary:
        save_file({"moments": views.moments, "regions": views.regions}, temporary)
    meta = {"key": key, "scores": views.scores, "in_crop": views.in_crop, "cohorts": views.cohorts}
    with atomic_path(meta_path) as temporary:
        temporary.write_text(json.dumps(meta), encoding="utf-8")
    return views


def _view(images: Tensor, lungs: Tensor, matrices: Tensor, autoencoder: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Latent moments, small region maps and region areas in pixels of moved images."""
    moments, small, areas = [], [], []
    device = next(autoencoder.parameters()).device
    for start in track(range(0, len(images), 32), "encoding views", transient=True):
        part = slice(start, start + 32)
        moved = warp(to_model_range(images[part]), matrices[part])
        moved = moved.expand(-1, autoencoder.config.in_channels, -1, -1)
        posterior = autoencoder.encode(moved.to(device)).latent_dist
        moments.append(posterior.parameters.half().cpu())
        masks = torch.stack([_stack(regions_of_lungs(row), images.shape[-1]) for row in lungs[part]])
        masks = warp(masks, matrices[part], mode="nearest", padding="zeros")
        areas.append(masks.sum(dim=(-1, -2)))
        small.append((F.adaptive_avg_pool2d(masks, moments[-1].shape[-1]) * 255).round().to(torch.uint8))
    return torch.cat(moments), torch.cat(small), torch.cat(areas)


def _stack(regions: Mapping[str, np.ndarray] | None, size: int) -> Tensor:
    if regions is None:
        return torch.zeros(len(REGIONS), size, size)
    return torch.from_numpy(np.stack([regions[name] for name in REGIONS])).float()
