"""Segmenters of radiographs: MONAI's U-Net, and two with transformers to compare it with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from monai.networks.nets import UNETR, UNet
from torch import Tensor

from skiagraph.errors import ModelError
from skiagraph.models.transunet import TransUNetType

LUNGS = ("background", "right lung", "left lung")
"""Classes of the shipped lung segmenter."""

ARCHITECTURES = ("unet", "unetr", "transunet-type")


class Segmenter(ModelMixin, ConfigMixin):
    """Per-pixel classes of radiographs and other pictures.

    Args:
        classes: names, background first.
        architecture: "unet", MONAI's residual U-Net; "unetr", a vision transformer whose layers feed a convolutional
            decoder (Hatamizadeh et al. 2022, arXiv 2103.10504); "transunet-type", convolutions around a transformer
            (`skiagraph.models.transunet`).
        channels: width of each level, halving the side from level to level; of a UNETR only the first counts.
        working_size: side in pixels at which it looks; inputs are resampled to it and logits back.
        in_channels: of the images, 1 or 3.
        one_piece: every class is one connected piece without holes, so that smaller pieces are errors.
        least_agreement: of its answers to several views of a picture (`skiagraph.pipelines.mask_checks`), below which
            its mask is not to be trusted.
    """

    @register_to_config
    def __init__(
        self,
        classes: Sequence[str] = LUNGS,
        architecture: str = "unet",
        channels: Sequence[int] = (16, 32, 64, 96),
        working_size: int = 128,
        in_channels: int = 1,
        one_piece: bool = False,
        least_agreement: float = 0.0,
    ) -> None:
        super().__init__()
        outputs, width = len(classes), channels[0]
        if architecture == "unet":
            strides = [2] * (len(channels) - 1)
            self.net = UNet(2, in_channels, outputs, channels=list(channels), strides=strides, num_res_units=2)
        elif architecture == "unetr":
            self.net = UNETR(
                in_channels, outputs, working_size, feature_size=width, hidden_size=12 * width, mlp_dim=24 * width,
                num_heads=6, spatial_dims=2,
            )  # fmt: skip
        elif architecture == "transunet-type":
            self.net = TransUNetType(in_channels, outputs, working_size, channels)
        else:
            raise ModelError(f"unknown segmenter architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes, H, W) of images (batch, in_channels, H, W) in [-1, 1]; else ModelError."""
        check_images(images, self.config.in_channels)
        size = (self.config.working_size,) * 2
        small = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
        return F.interpolate(self.net(small.to(self.dtype)), images.shape[-2:], mode="bilinear", align_corners=False)

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Scores, float32 (batch, classes, H, W), of images in [-1, 1]: the logits; the highest is the class."""
        return self(images).float()

    def segment(self, images: Tensor) -> Tensor:
        """Class index (batch, H, W), uint8, of images (batch, in_channels, H, W) in [-1, 1]."""
        return self.scores(images).argmax(dim=1).to(torch.uint8)


def check_images(images: Tensor, channels: int) -> None:
    """Raise ModelError unless images are (batch, channels, H, W)."""
    if images.ndim != 4 or images.shape[1] != channels:
        raise ModelError(f"segmenter: images are {tuple(images.shape)}, expected (batch, {channels}, H, W) in [-1, 1]")
