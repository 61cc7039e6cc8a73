"""AffinityNet: features of which neighbouring pixels of one class have alike ones (arXiv 1803.10464, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from skiagraph.errors import ModelError
from skiagraph.models.autoencoder import ResidualBlock

STRIDE = 8
"""Image side over feature side."""


class AffinityNet(ModelMixin, ConfigMixin):
    """Features at an eighth of the image's side from three scales of a residual network.

    Args:
        in_channels: 1 for grey, 3 for colour.
        channels: width at a quarter, an eighth and a sixteenth of the image's side, multiples of 8.
        features: channels of the output.
    """

    @register_to_config
    def __init__(self, in_channels: int = 1, channels: Sequence[int] = (32, 64, 96), features: int = 64) -> None:
        super().__init__()
        quarter, eighth, sixteenth = channels
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(16 * in_channels, quarter, 3, padding=1), ResidualBlock(quarter)
        )
        self.middle = nn.Sequential(
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1), ResidualBlock(eighth), ResidualBlock(eighth)
        )
        self.coarse = nn.Sequential(nn.Conv2d(eighth, sixteenth, 3, stride=2, padding=1), ResidualBlock(sixteenth))
        self.fuse = nn.Conv2d(quarter + eighth + sixteenth, features, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, features, ceil(H / 8), ceil(W / 8)) of images (batch, in_channels, H, W) in [-1, 1].

        Sides that are not multiples of 16 are continued by their last pixels.
        """
        if images.ndim != 4 or images.shape[1] != self.config.in_channels:
            raise ModelError(
                f"AffinityNet: images are {tuple(images.shape)}, expected (batch, {self.config.in_channels}, H, W)"
            )
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
        fine = self.stem(images)
        middle = self.middle(fine)
        coarse = F.interpolate(self.coarse(middle), middle.shape[-2:], mode="bilinear", align_corners=False)
        features = F.elu(self.fuse(torch.cat([F.avg_pool2d(fine, 2), middle, coarse], dim=1)))
        return features[..., : -(-height // STRIDE), : -(-width // STRIDE)]
