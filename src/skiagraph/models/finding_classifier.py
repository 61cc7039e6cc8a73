"""A small convolutional classifier of findings, whose penultimate layer is the offline feature extractor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from skiagraph.errors import ModelError
from skiagraph.models.autoencoder import ResidualBlock


class FindingClassifier(ModelMixin, ConfigMixin):
    """Independent probabilities of findings on a frontal radiograph.

    Args:
        labels: names of the outputs.
        channels: width of each stage; the first looks at a quarter of the working side, each next at half of it.
        working_size: side in pixels at which it looks; inputs are resampled to it.
    """

    @register_to_config
    def __init__(
        self, labels: Sequence[str], channels: Sequence[int] = (32, 64, 128, 192), working_size: int = 128
    ) -> None:
        super().__init__()
        widths = list(channels)
        layers: list[nn.Module] = [nn.Conv2d(1, widths[0], 7, stride=2, padding=3)]
        for width, following in zip(widths, [*widths[1:], widths[-1]], strict=True):
            layers += [nn.MaxPool2d(2), ResidualBlock(width), nn.Conv2d(width, following, 3, padding=1)]
        self.backbone = nn.Sequential(*layers, nn.GroupNorm(8, widths[-1]), nn.SiLU())
        self.head = nn.Linear(2 * widths[-1], len(labels))

    def features(self, images: Tensor) -> Tensor:
        """Mean and maximum over positions of the last stage, (batch, 2 * channels[-1]), of images in [-1, 1].

        Args:
            images: (batch, 1, H, W).
        """
        if images.ndim != 4 or images.shape[1] != 1:
            raise ModelError(f"classifier: images are {tuple(images.shape)}, expected (batch, 1, H, W) in [-1, 1]")
        size = (self.config.working_size,) * 2
        if tuple(images.shape[-2:]) != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        maps = self.backbone(images)
        return torch.cat([maps.mean(dim=(-1, -2)), maps.amax(dim=(-1, -2))], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, labels) of images (batch, 1, H, W) in [-1, 1]."""
        return self.head(self.features(images))
