"""The numbers on the way from heat maps to masks: those of the papers, and those that suit the shipped model's maps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skiagraph.masks.crf import DenseCRF

SIDE = 512
"""Side in pixels of the pictures that widths in position are meant for; they grow and shrink with other pictures."""


@dataclass(frozen=True)
class CRFWidths:
    """Widths and weights of `DenseCRF`'s kernels for pictures of 512 px."""

    gaussian_sxy: float = 3.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 60.0
    bilateral_schan: float = 10.0
    bilateral_compat: float = 9.0

    def crf(self, image: np.ndarray) -> DenseCRF:
        """Kernels for a picture uint8 (H, W[, 3]) of any size."""
        scale = max(image.shape[:2]) / SIDE
        return DenseCRF(
            image, gaussian_sxy=scale * self.gaussian_sxy, gaussian_compat=self.gaussian_compat,
            bilateral_sxy=scale * self.bilateral_sxy, bilateral_schan=self.bilateral_schan,
            bilateral_compat=self.bilateral_compat,
        )  # fmt: skip


@dataclass(frozen=True)
class MaskSettings:
    """How maps become masks.

    thresholds: candidates for a map's threshold.
    background: score of the background beside heat maps that walked along affinities.
    label_crf: of the labels that affinities are learned from.
    threshold_crf: of the candidates' masks.
    """

    thresholds: tuple[float, ...]
    background: float
    label_crf: CRFWidths = field(default_factory=CRFWidths)
    threshold_crf: CRFWidths = field(default_factory=CRFWidths)


def thresholds(first: float, last: float, step: float = 0.01) -> tuple[float, ...]:
    """From the first to the last, both included."""
    return tuple(np.arange(first, last + step / 2, step).round(4).tolist())


DIFFUMASK = MaskSettings(thresholds(0.35, 0.54), 0.45, CRFWidths(), CRFWidths(3, 3, 80, 13, 10))
"""Of DiffuMask (arXiv 2303.11681), which arXiv 2503.07209 follows: made for photographs of 512 px."""

RADIOGRAPHS = MaskSettings(thresholds(0.25, 0.45, 0.02), 0.35, CRFWidths(3, 3, 60, 13, 2), CRFWidths(3, 3, 60, 13, 2))
"""Found on validation patients with `benchmarks/mask_steps.py`: lungs are larger and softer than objects in
photographs, and the literal kernels eat them."""
