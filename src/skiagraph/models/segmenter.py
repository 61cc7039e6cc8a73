"""Segmenters of radiographs: MONAI's U-Net, and two with transformers to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

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

COUNTED = "counted"
HIDDEN = (COUNTED, "left out")
"""What an answer does with the hidden part of a class."""


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
        hidden: "counted" or "left out", where the network tells the part of every class that lies hidden behind other
            organs, such as the lung behind the heart, from the part that shows; whether its answer counts that part to
            the class. None: it does not tell them apart.
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
        hidden: str | None = None,
        one_piece: bool = False,
        least_agreement: float = 0.0,
    ) -> None:
        super().__init__()
        if hidden not in (None, *HIDDEN):
            raise ModelError(f"segmenter: hidden {hidden!r} must be {' or '.join(HIDDEN)}, or nothing")
        outputs, width = len(classes) if hidden is None else 2 * len(classes) - 1, channels[0]
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

    def forward(self, images: Tensor, counted: Tensor | None = None) -> Tensor:
        """Logits (batch, classes, H, W).

        Args:
            images: (batch, in_channels, H, W) in [-1, 1].
            counted: bool (batch,), whether hidden parts count to their class in each image; as `hidden` has it where
                None.

        Raises:
            ModelError: images of another shape.
        """
        check_images(images, self.config.in_channels)
        size = (self.config.working_size,) * 2
        small = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
        outputs = self.net(small.to(self.dtype))
        if self.config.hidden is not None:
            own = torch.full((len(images),), self.config.hidden == COUNTED, device=images.device)
            outputs = united(outputs, own if counted is None else counted)
        return F.interpolate(outputs, images.shape[-2:], mode="bilinear", align_corners=False)

    @torch.no_grad()
    def scores(self, images: Tensor, counted: Tensor | None = None) -> Tensor:
        """Scores, float32 (batch, classes, H, W), of images in [-1, 1]: the logits; the highest is the class."""
        return self(images, counted).float()

    def segment(self, images: Tensor, counted: Tensor | None = None) -> Tensor:
        """Class index (batch, H, W), uint8, of images (batch, in_channels, H, W) in [-1, 1]; see `forward`."""
        return self.scores(images, counted).argmax(dim=1).to(torch.uint8)


def united(outputs: Tensor, counted: Tensor) -> Tensor:
    """Logits of the classes from those of their parts: probabilities of united parts add up.

    So masks of either kind can train one network (marginal loss, Shi et al. 2021, arXiv 2007.03868).

    Args:
        outputs: (batch, 1 + 2 k, H, W): background, the parts of k classes that show, and those that are hidden.
        counted: bool (batch,): hidden parts belong to their class, else to the background.

    Returns:
        (batch, 1 + k, H, W), whose softmax is the outputs' softmax, summed over what was united.
    """
    k = outputs.shape[1] // 2
    background, shown, hidden = outputs[:, :1], outputs[:, 1 : 1 + k], outputs[:, 1 + k :]
    whole = torch.cat([background, torch.logaddexp(shown, hidden)], dim=1)
    rest = reduce(torch.logaddexp, hidden.split(1, dim=1), background)
    return torch.where(counted[:, None, None, None], whole, torch.cat([rest, shown], dim=1))


def check_images(images: Tensor, channels: int) -> None:
    """Raise ModelError unless images are (batch, channels, H, W)."""
    if images.ndim != 4 or images.shape[1] != channels:
        raise ModelError(f"segmenter: images are {tuple(images.shape)}, expected (batch, {channels}, H, W) in [-1, 1]")
