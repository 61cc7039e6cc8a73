"""Fully connected CRF with Gaussian edge potentials (Kraehenbuehl and Koltun 2011, arXiv 1210.5644)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from skiagraph.errors import MaskError
from skiagraph.masks.permutohedral import PermutohedralLattice

SMALL = 1e-20


def unary_from_probabilities(probabilities: np.ndarray, *, clip: float = 1e-5) -> np.ndarray:
    """-log p, float32, of probabilities (labels, H, W) in [0, 1], which are cut off at `clip` from below."""
    return -np.log(np.clip(probabilities, clip, 1.0)).astype(np.float32)


def unary_from_labels(labels: np.ndarray, count: int, *, certainty: float) -> np.ndarray:
    """-log p, float32 (count, H, W), of a label map: the label has probability `certainty`, the others share the rest.

    Args:
        labels: integer (H, W) in [0, count).
        count: number of labels.
        certainty: in (0, 1); the papers' "gt_prob".
    """
    if not 0 < certainty < 1 or labels.min() < 0 or labels.max() >= count:
        raise MaskError(f"labels must lie in 0 to {count - 1} and certainty ({certainty}) in (0, 1)")
    probabilities = np.full((count, *labels.shape), (1 - certainty) / (count - 1))
    np.put_along_axis(probabilities, labels[None].astype(np.int64), certainty, axis=0)
    return unary_from_probabilities(probabilities)


def dense_crf(
    unary: np.ndarray,
    image: np.ndarray,
    *,
    gaussian_sxy: float = 3.0,
    gaussian_compat: float = 3.0,
    bilateral_sxy: float = 60.0,
    bilateral_schan: float = 10.0,
    bilateral_compat: float = 9.0,
    iterations: int = 10,
) -> np.ndarray:
    """Label probabilities after mean-field iterations (arXiv 1210.5644, Algorithm 1), float32 (labels, H, W).

    Pairwise terms are Potts: a smoothness kernel of position and an appearance kernel of position and intensity, each
    normalised symmetrically. Defaults are DiffuMask's (arXiv 2303.11681).

    Args:
        unary: float (labels, H, W), negative log-probabilities.
        image: uint8 (H, W) or (H, W, 3).
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels; its weight is `gaussian_compat`.
        gaussian_compat: 0 leaves the kernel out.
        bilateral_sxy: standard deviation of the appearance kernel in position, in pixels.
        bilateral_schan: and in intensity, in grey levels of 0 to 255.
        bilateral_compat: weight of the appearance kernel; 0 leaves it out.
        iterations: mean-field updates.

    Raises:
        MaskError: an image that is not uint8, or of another size than the unary term.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[:2] != unary.shape[1:]:
        raise MaskError(
            f"image is {image.dtype} {image.shape}, unary {unary.shape}; expected uint8 (H, W[, 3]) and (labels, H, W)"
        )
    kernels = []
    if gaussian_compat:
        kernels.append((gaussian_compat, _smoothness(*image.shape[:2], gaussian_sxy)))
    if bilateral_compat:
        kernels.append((bilateral_compat, _appearance(image, bilateral_sxy, bilateral_schan)))
    labels = len(unary)
    cost = unary.reshape(labels, -1).T.astype(np.float32)
    q = _softmax(-cost)
    for _ in range(iterations):
        q = _softmax(-cost + sum(weight * kernel(q) for weight, kernel in kernels))
    return q.T.reshape(unary.shape)


class _NormalisedKernel:
    """D^-1/2 K D^-1/2 with D the row sums of K."""

    def __init__(self, features: np.ndarray) -> None:
        self.lattice = PermutohedralLattice(features)
        self.scale = 1 / np.sqrt(self.lattice.filter(np.ones((len(features), 1))) + SMALL)

    def __call__(self, q: np.ndarray) -> np.ndarray:
        return self.scale * self.lattice.filter(self.scale * q)


@lru_cache(maxsize=4)
def _smoothness(height: int, width: int, sxy: float) -> _NormalisedKernel:
    return _NormalisedKernel(_positions(height, width) / sxy)


def _appearance(image: np.ndarray, sxy: float, schan: float) -> _NormalisedKernel:
    height, width = image.shape[:2]
    channels = image.reshape(height * width, -1).astype(np.float64)
    return _NormalisedKernel(np.hstack([_positions(height, width) / sxy, channels / schan]))


def _positions(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
