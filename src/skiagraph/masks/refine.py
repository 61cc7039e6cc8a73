"""From heat maps and affinities to the final mask of an image (arXiv 2503.07209, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skiagraph.masks.affinity import random_walk, transition_matrix
from skiagraph.masks.settings import RADIOGRAPHS, MaskSettings
from skiagraph.masks.threshold import adaptive_threshold, threshold_masks


@dataclass(frozen=True)
class Refined:
    """What came of one image's heat maps.

    labels: uint8 (H, W), 0 background, k the k-th class.
    affinity: the same from the random walk alone.
    thresholds: chosen for each class; None where the walk found nothing of it.
    confidence: IoU of `labels` and `affinity` over all foreground, in [0, 1]; 0 where both are empty.
    """

    labels: np.ndarray
    affinity: np.ndarray
    thresholds: tuple[float | None, ...]
    confidence: float


def walk_heats(heats: np.ndarray, features: Tensor, *, beta: float = 16.0) -> np.ndarray:
    """Heat maps (classes, H, W) after a random walk along the affinities of features (channels, h, w), same size."""
    size = heats.shape[1:]
    small = F.adaptive_avg_pool2d(torch.from_numpy(heats), features.shape[-2:]).numpy()
    walked = torch.from_numpy(random_walk(small, transition_matrix(features, beta=beta)).astype(np.float32))
    return F.interpolate(walked[None], size, mode="bilinear", align_corners=False)[0].numpy()


def label_map(scores: np.ndarray, background: float) -> np.ndarray:
    """uint8 (H, W): 1 + the class of the highest score where that exceeds the background's, else 0."""
    return np.where(scores.max(axis=0) > background, scores.argmax(axis=0) + 1, 0).astype(np.uint8)


def refine(heats: np.ndarray, image: np.ndarray, features: Tensor, settings: MaskSettings = RADIOGRAPHS) -> Refined:
    """Per class, the threshold whose CRF mask overlaps the random walk's mask best.

    Args:
        heats: float32 (classes, H, W) in [0, 1].
        image: uint8 (H, W) or (H, W, 3).
        features: of an AffinityNet, (channels, h, w).
        settings: candidate thresholds, the CRF, and the background's score beside the walk.

    Raises:
        MaskError: maps outside [0, 1] or constant.
    """
    walked = walk_heats(heats, features)
    affinity = label_map(walked, settings.background)
    chosen: list[float | None] = []
    scores = np.zeros_like(walked)
    for index, heat in enumerate(heats):
        reference = affinity == index + 1
        if not reference.any():
            chosen.append(None)
            continue
        masks = threshold_masks(heat, image, settings)
        best, _ = adaptive_threshold(masks, reference)
        chosen.append(best)
        scores[index] = np.where(masks[best], 1 + walked[index], 0)  # where masks meet, the walk decides
    labels = label_map(scores, 0.5)
    either = ((labels > 0) | (affinity > 0)).sum()
    agreed = ((labels == affinity) & (labels > 0)).sum()
    return Refined(labels, affinity, tuple(chosen), float(agreed / either) if either else 0.0)
