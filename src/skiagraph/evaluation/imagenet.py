"""Feature extractors that have seen no radiograph: EfficientNet-Lite0, 1 and 2, trained on ImageNet.

They mind texture, which the shipped classifier does not, and nothing of them was trained on this project's data. Their
weights come with packages of the extra `features`; nothing is downloaded. The shipped perceptual decoder was trained
against Lite1; Lite0 and Lite2 judge.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from skiagraph.errors import EvaluationError, ModelError
from skiagraph.models.imagenet_stages import NETWORKS, ImageNetStages

EXTRACTOR = "imagenet-efficientnet-lite0"
"""Name in metrics of the default network's features."""


class ImageNetExtractor:
    """Features and perceptual distances of radiographs and colour pictures from EfficientNet-Lite (arXiv 1905.11946).

    Args:
        network: one of `NETWORKS`. `name` is what metrics call it, `stages` gives its activations.

    Raises:
        EvaluationError: another network, or the extra `features` is not installed.
    """

    def __init__(self, network: str = NETWORKS[0]) -> None:
        self.name = f"imagenet-{network}"
        try:
            self.stages = ImageNetStages(network).requires_grad_(False)
        except ModelError as error:
            raise EvaluationError(str(error)) from error

    @torch.no_grad()
    def features(self, images: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Means of the last block's activations, float32 (n, 320), of Lite2 (n, 352).

        Args:
            images: (n, H, W) or, in colour, (n, 3, H, W) in [0, 1], sides multiples of 32.
            batch_size: images at a time.

        Raises:
            EvaluationError: images of another shape or range.
        """
        return torch.cat([self.stages(c)[-1].mean(dim=(-1, -2)) for c in _batches(images, batch_size)]).numpy()

    @torch.no_grad()
    def perceptual_distance(self, a: np.ndarray, b: np.ndarray, *, batch_size: int = 16) -> np.ndarray:
        """Mean squared distance of unit-length activations, averaged over stages, float (n,); 0 for equal images.

        The form of LPIPS (Zhang et al. 2018, arXiv 1801.03924, Eq. 1) with all channels weighing the same, so that its
        values compare with each other and not with published LPIPS.

        Args:
            a: images (n, H, W) or (n, 3, H, W) in [0, 1], sides multiples of 32.
            b: as many of the same size.
            batch_size: images at a time.

        Raises:
            EvaluationError: images of another shape or range, or not as many.
        """
        if np.shape(a) != np.shape(b):
            raise EvaluationError(f"images are {np.shape(a)} and {np.shape(b)}; give pairs of one size")
        pairs = zip(_batches(a, batch_size), _batches(b, batch_size), strict=True)
        return torch.cat([self._distance(x, y) for x, y in pairs]).numpy()

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        stages = zip(self.stages(a), self.stages(b), strict=True)
        gaps = [(_unit(x) - _unit(y)).square().sum(dim=1).mean(dim=(-1, -2)) for x, y in stages]
        return torch.stack(gaps).mean(dim=0)


def _batches(images: np.ndarray, size: int) -> Iterator[Tensor]:
    """Batches (n, 1 or 3, H, W) in [-1, 1]."""
    images = np.ascontiguousarray(images, np.float32)
    in_range = images.size and images.min() >= 0 and images.max() <= 1
    known = images.ndim == 3 or (images.ndim == 4 and images.shape[1] == 3)
    if not known or not in_range or any(side % 32 for side in images.shape[-2:]):
        raise EvaluationError(
            f"images are {images.shape}; expected (n, H, W) or (n, 3, H, W), n >= 1, values in [0, 1] and sides "
            "multiples of 32"
        )
    for chunk in torch.from_numpy(images).split(size):
        yield (chunk if chunk.ndim == 4 else chunk[:, None]) * 2 - 1


def _unit(activations: Tensor) -> Tensor:
    return nn.functional.normalize(activations, dim=1, eps=1e-8)
