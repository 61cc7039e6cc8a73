"""A network of TransUNet's type (Chen et al. 2021, arXiv 2102.04306), the peer that arXiv 2503.07209 trains on pairs.

As published: a convolutional encoder, a transformer over the tokens of its coarsest features, and a convolutional
decoder with a skip connection from every level. Not as published: MONAI's residual blocks take the place of a ResNet-50
from ImageNet, the transformer's layers are few and narrow, and nothing is pretrained.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from einops import rearrange
from monai.networks.blocks import UnetrBasicBlock, UnetrUpBlock
from torch import Tensor, nn

HEAD_WIDTH = 32


class TransUNetType(nn.Module):
    """Logits (batch, outputs, side, side) of images (batch, in_channels, side, side).

    Args:
        in_channels: of the images.
        outputs: classes.
        side: of the images in pixels, a multiple of 2 ** (len(channels) - 1).
        channels: width of each level of the encoder; the side halves from level to level, and the transformer stands
            at the last one, twice as wide.
        layers: of the transformer; 12 in the paper.
    """

    def __init__(self, in_channels: int, outputs: int, side: int, channels: Sequence[int], layers: int = 4) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        block = {"spatial_dims": 2, "kernel_size": 3, "norm_name": "instance"}
        self.encoder = nn.ModuleList(
            UnetrBasicBlock(in_channels=a, out_channels=b, stride=1 if level == 0 else 2, res_block=True, **block)
            for level, (a, b) in enumerate(pairwise(widths))
        )
        width, tokens = 2 * channels[-1], (side // 2 ** (len(channels) - 1)) ** 2
        heads = max(1, width // HEAD_WIDTH)
        self.embed = nn.Conv2d(channels[-1], width, 1)
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.project = nn.Conv2d(width, channels[-1], 1)
        finer = pairwise(channels[::-1])
        self.decoder = nn.ModuleList(
            UnetrUpBlock(in_channels=a, out_channels=b, upsample_kernel_size=2, res_block=True, **block)
            for a, b in finer
        )
        self.head = nn.Conv2d(channels[0], outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        levels, features = [], images
        for down in self.encoder:
            features = down(features)
            levels.append(features)
        size = features.shape[-2:]
        tokens = rearrange(self.embed(features), "b c h w -> b (h w) c") + self.positions
        attended = self.transformer(tokens)
        features = self.project(rearrange(attended, "b (h w) c -> b c h w", h=size[0]))
        for up, skip in zip(self.decoder, levels[-2::-1], strict=True):
            features = up(features, skip)
        return self.head(features)
