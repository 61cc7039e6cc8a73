"""What a painted image must pass before it may train anything: it changed, no seam shows, its mask still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from skiagraph.data.images import square
from skiagraph.evaluation import dice
from skiagraph.models.segmenter import Segmenter

BORDER = 4
"""Pixels on each side of a mask's border in which a seam is looked for."""


@dataclass(frozen=True)
class GateConfig:
    """Bounds: least mean change inside the mask (of [0, 1]), share of real images whose border gradient is allowed,
    and least Dice between the kept mask and the judge's."""

    least_change: float = 0.01
    seam_quantile: float = 0.95
    least_dice: float = 0.8


class Gate:
    """Measures painted images; the bound for seams comes from real ones.

    Args:
        config: bounds.
        real: real images with their masks, at least one.
        judge: segmenter trained on real data, any class of which is the object; None to leave this check out.
    """

    def __init__(
        self, config: GateConfig, real: Sequence[tuple[np.ndarray, np.ndarray]], judge: Segmenter | None
    ) -> None:
        self.config, self.judge = config, judge
        self.usual = float(np.quantile([border_gradient(i, m) for i, m in real], config.seam_quantile))

    def measure(self, before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        """Numbers for the manifest: `change`, `seam`, `seam_bound` and, with a judge, `dice`.

        Args:
            before: float (H, W) or (H, W, 3) in [0, 1].
            after: of the same shape.
            mask: bool (H, W).
        """
        found = {
            "change": float(np.abs(after - before)[mask].mean()),
            "outside": float(np.abs(after - before)[~mask].max(initial=0.0)),
            "seam": border_gradient(after, mask),
            "seam_bound": max(self.usual, border_gradient(before, mask)),
        }
        if self.judge is not None:
            found["dice"] = judged_dice(self.judge, after, mask)
        return {name: round(value, 5) for name, value in found.items()}

    def fault(self, found: dict[str, float]) -> str | None:
        """Why an image with these numbers is dropped; None where it is kept."""
        c = self.config
        if found["change"] < c.least_change:
            return f"unchanged: mean change inside the mask {found['change']:.4f} < {c.least_change}"
        if found["seam"] > found["seam_bound"]:
            return f"seam: gradient across the border {found['seam']:.4f} > {found['seam_bound']:.4f} of real images"
        if "dice" in found and found["dice"] < c.least_dice:
            return f"mask: Dice with the judge's mask {found['dice']:.3f} < {c.least_dice}"
        return None


def border_gradient(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute slope across a mask's border, per pixel, within `BORDER` pixels of it.

    Args:
        image: float (H, W) or (H, W, 3) in [0, 1]; colours are averaged.
        mask: bool (H, W); 0 is returned where it has no border.
    """
    grey = image if image.ndim == 2 else image.mean(axis=-1)
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    near = np.abs(depth) <= BORDER
    if mask.all() or not mask.any():
        return 0.0
    smooth = ndimage.gaussian_filter(grey, 1.0)
    normal = np.stack(np.gradient(ndimage.gaussian_filter(depth, 1.0)))
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-6)
    slope = np.abs((np.stack(np.gradient(smooth)) * normal).sum(axis=0))
    return float(slope[near].mean())


def judged_dice(judge: Segmenter, image: np.ndarray, mask: np.ndarray) -> float:
    """Dice of a mask (H, W) and the one a segmenter draws on the image, on the padded square it looks at."""
    if image.ndim == 3 and judge.config.get("in_channels", 1) == 1:
        image = image.mean(axis=-1)
    side = judge.config.working_size
    pixels = torch.from_numpy(np.atleast_3d(square(image, side))).movedim(-1, 0)[None]
    found = judge.segment(pixels.to(judge.device, judge.dtype) * 2 - 1).cpu().numpy() > 0
    return dice(found, square(mask.astype(np.float32), side)[None] >= 0.5).value
