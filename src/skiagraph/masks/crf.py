"""Fully connected CRF with Gaussian edge potentials (Kraehenbuehl and Koltun 2011, arXiv 1210.5644)."""

from __future__ import annotations

from typing import Any

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


class DenseCRF:
    """The pairwise terms of one image, built once; `infer` then labels it by any number of unary terms.

    The terms are Potts: a smoothness kernel of position and an appearance kernel of position and intensity, each
    normalised symmetrically. Defaults are those of DiffuMask's affinity labels (arXiv 2303.11681).

    Args:
        image: uint8 (H, W) or (H, W, 3); a grey picture counts as three equal channels, as it does for pydensecrf.
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels; its weight is `gaussian_compat`.
        gaussian_compat: 0 leaves the kernel out.
        bilateral_sxy: standard deviation of the appearance kernel in position, in pixels.
        bilateral_schan: and in each channel, in levels of 0 to 255.
        bilateral_compat: weight of the appearance kernel; 0 leaves it out.

    Raises:
        MaskError: an image that is not uint8 (H, W) or (H, W, 3).
    """

    def __init__(
        self,
        image: np.ndarray,
        *,
        gaussian_sxy: float = 3.0,
        gaussian_compat: float = 3.0,
        bilateral_sxy: float = 60.0,
        bilateral_schan: float = 10.0,
        bilateral_compat: float = 9.0,
    ) -> None:
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
            raise MaskError(f"image is {image.dtype} {image.shape}, expected uint8 (H, W) or (H, W, 3)")
        self.size = image.shape[:2]
        place = np.indices(self.size, np.float32)[::-1].reshape(2, -1)
        colour = np.broadcast_to(np.atleast_3d(image), (*self.size, 3)).reshape(-1, 3).T
        self._kernels: list[tuple[float, _NormalisedKernel]] = []
        if gaussian_compat:
            self._kernels.append((gaussian_compat, _NormalisedKernel(place / gaussian_sxy)))
        if bilateral_compat:
            features = np.concatenate([place / bilateral_sxy, colour / np.float32(bilateral_schan)])
            self._kernels.append((bilateral_compat, _NormalisedKernel(features)))

    def infer(self, unary: np.ndarray, *, iterations: int = 10) -> np.ndarray:
        """Label probabilities after mean-field iterations (arXiv 1210.5644, Algorithm 1), float32 (labels, H, W).

        Args:
            unary: float (labels, H, W), negative log-probabilities.
            iterations: mean-field updates.

        Raises:
            MaskError: a unary term of another size than the image.
        """
        if unary.ndim != 3 or unary.shape[1:] != self.size:
            raise MaskError(f"unary is {unary.shape}, expected (labels, {self.size[0]}, {self.size[1]})")
        evidence = -unary.reshape(len(unary), -1).astype(np.float32)
        q = _softmax(evidence)
        for _ in range(iterations):
            scores = evidence.copy()
            for weight, kernel in self._kernels:
                # Probabilities sum to one, and so the last label's message follows from the others'.
                messages = np.stack([kernel(label) for label in q[:-1]])
                scores[:-1] += np.float32(weight) * messages
                scores[-1] += np.float32(weight) * (kernel.of_ones - messages.sum(axis=0))
            q = _softmax(scores)
        return q.reshape(unary.shape)


def dense_crf(unary: np.ndarray, image: np.ndarray, *, iterations: int = 10, **kernels: Any) -> np.ndarray:
    """`DenseCRF(image, **kernels).infer(unary)`: label probabilities float32 (labels, H, W) of one unary term."""
    return DenseCRF(image, **kernels).infer(unary, iterations=iterations)


class _NormalisedKernel:
    """D^-1/2 K D^-1/2 with D the row sums of K; `of_ones` is what it makes of the constant 1."""

    def __init__(self, features: np.ndarray) -> None:
        self.lattice = PermutohedralLattice(features)
        ones = np.ones(features.shape[1], np.float32)
        self.scale = 1 / np.sqrt(self.lattice.filter(ones) + np.float32(SMALL))
        self.of_ones = self(ones)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return self.scale * self.lattice.filter(self.scale * values)


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(axis=0))
    return exponentials / exponentials.sum(axis=0)
