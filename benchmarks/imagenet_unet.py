"""A peer: a U-Net whose encoder begins as the network that ImageNet taught, the one the latent segmenter begins with.

The same layers are held still and the others trained along, its stages are seen through the same normalisation, and it
is trained as the package trains MONAI's U-Net. So what the latent segmenter is ahead of it is not ImageNet's.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from monai.networks.nets.basic_unet import UpCat
from torch import Tensor, nn

from skiagraph.models.imagenet_stages import NETWORKS, ImageNetStages
from skiagraph.training.recipe import SegmenterRecipe
from skiagraph.training.tasks.segmenter import Pairs, SegmenterTask

WIDTHS = (24, 32, 64, 96)
"""Of the decoder, from half the image's side to a sixteenth."""


class ImageNetUNet(ModelMixin, ConfigMixin):
    """EfficientNet-Lite's stages and MONAI's blocks upwards, from a 32nd of the side to a half.

    Args:
        outputs: classes, background among them.
        begun: with ImageNet's weights, which the extra `features` brings; else random ones, to load others into.
    """

    @register_to_config
    def __init__(self, outputs: int = 2, begun: bool = False) -> None:
        super().__init__()
        self.stages = ImageNetStages(NETWORKS[0], trained=begun)
        if begun:
            self.stages.freeze(downscale=8)
        *skips, deepest = self.stages.widths
        ups = zip(pairwise([deepest, *reversed(WIDTHS)]), reversed(skips), strict=True)
        self.ups = nn.ModuleList(
            UpCat(2, below, beside, out, "leakyrelu", "instance", True, upsample="deconv", halves=False)
            for (below, out), beside in ups
        )
        self.head = nn.Conv2d(WIDTHS[0], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, outputs, H, W) of images (batch, 1 or 3, H, W) in [-1, 1], sides multiples of 32."""
        *skips, found = (F.group_norm(stage, 1) for stage in self.stages(images))
        for up, beside in zip(self.ups, reversed(skips), strict=True):
            found = up(found, beside)
        return F.interpolate(self.head(found), images.shape[-2:], mode="bilinear", align_corners=False)

    @torch.no_grad()
    def segment(self, images: Tensor) -> Tensor:
        """As the package's segmenters: class index (batch, H, W)."""
        return self(images).argmax(dim=1).to(torch.uint8)


class ImageNetUNetTask(SegmenterTask):
    """As MONAI's U-Net is trained, but for the network."""

    def __init__(self, recipe: SegmenterRecipe, train: Pairs, val: Pairs) -> None:
        super().__init__(recipe, train, val)
        self.model = ImageNetUNet(len(recipe.classes) + 1, begun=True)

    def export(self, model: nn.Module, folder: Path) -> None:
        """Weights and sizes; what a shipped segmenter's masks are held to is not measured."""
        model.register_to_config(begun=False)
        model.save_pretrained(folder)
