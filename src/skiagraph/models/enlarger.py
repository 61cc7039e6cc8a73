"""A small picture to one of twice its side, with the detail that the small one does not hold."""

from __future__ import annotations

import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Generator, Tensor, nn

from skiagraph.errors import ModelError
from skiagraph.models.autoencoder import Finish, ResidualBlock, grain


class Enlarger(ModelMixin, ConfigMixin):
    """Twice as many pixels a side: bicubic interpolation, and what layers at half the small picture's side add to it.

    It is the last, local stage of a cascade (Ho et al. 2022, arXiv 2106.15282), one pass in the place of a diffusion;
    trained as the perceptual decoder is. A new one adds nothing yet.

    Args:
        width: channels of the layers.
        layers: residual blocks.
        finish_channels: width of the layers at the large picture's size, which are given noise to draw grain from.
    """

    FACTOR = 2

    @register_to_config
    def __init__(self, width: int = 64, layers: int = 4, finish_channels: int = 16) -> None:
        super().__init__()
        kept = width // 8
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4, width, 3, padding=1), *(ResidualBlock(width) for _ in range(layers)),
            nn.SiLU(), nn.Conv2d(width, kept * 16, 3, padding=1), nn.PixelShuffle(4),
        )  # fmt: skip
        self.finish = Finish(kept, 1, finish_channels)

    def forward(self, images: Tensor, generator: Generator | list[Generator] | None = None) -> Tensor:
        """Large pictures (n, 1, 2 H, 2 W), about in [-1, 1], of small ones.

        Args:
            images: (n, 1, H, W) in [-1, 1], H and W even.
            generator: of the grain, one for all or one each; without it, every picture has the same noise.

        Raises:
            ModelError: images of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 1 or images.shape[2] % 2 or images.shape[3] % 2:
            raise ModelError(f"enlarger: images are {tuple(images.shape)}, expected (n, 1, H, W), H and W even")
        smooth = F.interpolate(images, scale_factor=self.FACTOR, mode="bicubic", align_corners=False)
        return self.finish(self.body(images), smooth, grain(smooth, generator))


def shrunk(images: Tensor) -> Tensor:
    """What an enlarged picture (n, 1, 2 H, 2 W) must be when it is made small again: means of 2 x 2 pixels."""
    return F.avg_pool2d(images, Enlarger.FACTOR)
