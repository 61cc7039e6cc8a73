"""How far a mask may be trusted: a segmenter is asked again about changed views of the same picture.

What it answers each time is moved back and compared (test-time augmentation, Wang et al. 2019, arXiv 1807.07356). Where
a picture is unlike those it was trained on, the answers differ. Their mean is the better mask, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from skiagraph.models.latent_segmenter import LatentSegmenter
from skiagraph.models.segmenter import Segmenter


@dataclass(frozen=True)
class View:
    """A change of a picture: turned by `degrees`, its sides times `scale`, values in [0, 1] to the power `gamma`."""

    degrees: float = 0.0
    scale: float = 1.0
    gamma: float = 1.0


GOOD = 0.85
"""Dice from which on a mask is good enough not to be flagged."""

FALSE_FLAGS = 0.05
"""Share of good masks that may be flagged."""

VIEWS = (View(), View(7, 0.92, 0.75), View(-7, 0.92, 1.35), View(0, 0.84), View(0, 1.06, 1.6))
"""The picture itself first, then views of which every one changes something else."""


def scores_of_views(model: Segmenter | LatentSegmenter, images: Tensor, **how: int) -> tuple[Tensor, Tensor]:
    """What a segmenter says of all `VIEWS`, and how far it agrees with itself.

    Args:
        model: the segmenter.
        images: (batch, channels, H, W) in [-1, 1].
        how: further arguments of its `scores`.

    Returns:
        Mean scores float32 (batch, classes, H, W), and the agreement float32 (batch,) in [0, 1]: the mean Dice of each
        view's mask and the mask of the mean scores.
    """
    scores = torch.stack([_scores(model, images, view, how) for view in VIEWS])
    mean = scores.mean(dim=0)
    whole = mean.argmax(dim=1)
    return mean, torch.stack([same_label_dice(s.argmax(dim=1), whole) for s in scores]).mean(dim=0)


def least_agreement(model: Segmenter | LatentSegmenter, images: Tensor, labels: Tensor) -> float:
    """Agreement below which a model's mask is to be flagged: so much that `FALSE_FLAGS` of its good masks are.

    Args:
        model: the segmenter.
        images: (n, channels, H, W) in [-1, 1], none of which trained it.
        labels: their drawn label maps (n, H, W).

    Returns:
        A number in [0, 1]; 0, for never, where no mask is good.
    """
    agreements, good = [], []
    for part, drawn in zip(images.split(16), labels.split(16), strict=True):
        scores, agreement = scores_of_views(model, part.to(model.device))
        agreements.append(agreement.cpu())
        good.append(same_label_dice(scores.argmax(dim=1).cpu(), drawn) >= GOOD)
    kept = torch.cat(agreements)[torch.cat(good)]
    return float(torch.quantile(kept, FALSE_FLAGS)) if len(kept) else 0.0


def same_label_dice(first: Tensor, second: Tensor) -> Tensor:
    """Dice (batch,) of label maps (batch, H, W) over all classes but 0; 1 where both are empty."""
    common = ((first == second) & (first > 0)).sum(dim=(1, 2))
    total = (first > 0).sum(dim=(1, 2)) + (second > 0).sum(dim=(1, 2))
    return torch.where(total > 0, 2 * common / total.clamp_min(1), 1.0)


def _scores(model: Segmenter | LatentSegmenter, images: Tensor, view: View, how: dict[str, int]) -> Tensor:
    if view == View():
        return model.scores(images, **how)
    shown = ((images.float() + 1) / 2).clamp(0, 1) ** view.gamma * 2 - 1
    there, back = _matrices(view, len(images))
    moved = _moved(shown, there, images.shape)
    return _moved(model.scores(moved.to(images.dtype), **how), back, images.shape)


def _moved(pictures: Tensor, matrices: Tensor, shape: torch.Size) -> Tensor:
    grid = F.affine_grid(matrices.to(pictures), [len(pictures), pictures.shape[1], *shape[-2:]], align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _matrices(view: View, count: int) -> tuple[Tensor, Tensor]:
    """Sampling matrices (count, 2, 3) that make a view, and that bring it back."""
    angle = torch.deg2rad(torch.tensor(view.degrees))
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    matrices = [F.pad(m, (0, 1)).expand(count, -1, -1) for m in (turn / view.scale, turn.T * view.scale)]
    return matrices[0], matrices[1]
