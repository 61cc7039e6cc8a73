"""Do words point where they should? Scores of word maps against region masks, and a loss that teaches them to."""

from __future__ import annotations

from torch import Tensor

from skiagraph.attention.heatmaps import unit_maximum


def grounding_loss(maps: Tensor, regions: Tensor) -> Tensor:
    """1 - soft Dice between word maps and region masks, averaged over the phrases that name a region.

    In the spirit of TokenCompose (arXiv 2312.03626, Eq. 4), which rewards attention mass inside the mask; Dice also
    asks that the map fills it, because later the map is thresholded relative to its maximum.

    Args:
        maps: (batch, phrases, height, width), non-negative, of any scale; all zero for phrases to leave out.
        regions: (batch, phrases, height, width) in [0, 1]; likewise.
    """
    used = (maps.amax(dim=(-1, -2)) > 0) & (regions.sum(dim=(-1, -2)) > 0)
    maps = unit_maximum(maps)
    overlap = (maps * regions).sum(dim=(-1, -2))
    dice = 2 * overlap / (maps.square().sum(dim=(-1, -2)) + regions.square().sum(dim=(-1, -2))).clamp_min(1e-6)
    return ((1 - dice) * used).sum() / used.sum().clamp_min(1)


def pointing_game(maps: Tensor, regions: Tensor) -> Tensor:
    """Whether each map's maximum lies in its region (Zhang et al. 2018), bool, leading shape of the maps.

    Args:
        maps: (..., height, width).
        regions: (..., height, width) in [0, 1]; a pixel counts as inside from 0.5.
    """
    peak = maps.flatten(-2).argmax(dim=-1, keepdim=True)
    return regions.flatten(-2).gather(-1, peak).squeeze(-1) >= 0.5


def threshold_iou(maps: Tensor, regions: Tensor, threshold: float = 0.5) -> Tensor:
    """IoU of maps in [0, 1] cut at `threshold` with their regions cut at 0.5, leading shape of the maps."""
    predicted, true = maps >= threshold, regions >= 0.5
    union = (predicted | true).sum(dim=(-1, -2))
    return (predicted & true).sum(dim=(-1, -2)) / union.clamp_min(1)
