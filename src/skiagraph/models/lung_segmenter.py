"""A small U-Net that finds the right and the left lung."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from monai.networks.nets import UNet
from torch import Tensor

from skiagraph.errors import ModelError

CLASSES = ("background", "right lung", "left lung")


class LungSegmenter(ModelMixin, ConfigMixin):
    """MONAI's residual U-Net over greyscale radiographs.

    Args:
        channels: width of each level, halving the side from level to level.
        working_size: side in pixels at which it looks; inputs are resampled to it and logits back.
    """

    @register_to_config
    def __init__(self, channels: Sequence[int] = (16, 32, 64, 96), working_size: int = 128) -> None:
        super().__init__()
        self.net = UNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=len(CLASSES),
            channels=list(channels),
            strides=[2] * (len(channels) - 1),
            num_res_units=2,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 3, H, W) over `CLASSES` of images (batch, 1, H, W) in [-1, 1]; ModelError for other shapes."""
        if images.ndim != 4 or images.shape[1] != 1:
            raise ModelError(f"segmenter: images are {tuple(images.shape)}, expected (batch, 1, H, W) in [-1, 1]")
        size = (self.config.working_size,) * 2
        small = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return F.interpolate(self.net(small), images.shape[-2:], mode="bilinear", align_corners=False)

    @torch.no_grad()
    def segment(self, images: Tensor) -> Tensor:
        """Class index (batch, H, W), uint8, of images (batch, 1, H, W) in [-1, 1]."""
        return self(images).float().argmax(dim=1).to(torch.uint8)
