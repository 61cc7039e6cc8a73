"""What tells decoded pictures from real ones while a decoder learns to leave no difference: an adversarial critic.

It reads a frozen network's stages (projected GANs, Sauer et al. 2021, arXiv 2111.01007) and the pixels themselves,
patch by patch (PatchGAN, Isola et al. 2017, arXiv 1611.07004), with spectrally normalised weights (arXiv 1802.05957).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Critic(nn.Module):
    """One score map per stage of the frozen network, and one of the pixels: high where a patch looks real.

    Args:
        stage_channels: channels of each stage that it reads.
        width: channels of its own layers.
    """

    def __init__(self, stage_channels: Sequence[int], width: int = 48) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(_conv(channels, width, 3), nn.LeakyReLU(0.2), _conv(width, 1, 1))
            for channels in stage_channels
        )
        self.pixels = nn.Sequential(
            _conv(1, width // 2, 3), nn.LeakyReLU(0.2),
            _conv(width // 2, width // 2, 4, stride=2), nn.LeakyReLU(0.2),
            _conv(width // 2, width, 4, stride=2), nn.LeakyReLU(0.2),
            _conv(width, width, 3), nn.LeakyReLU(0.2), _conv(width, 1, 1),
        )  # fmt: skip

    def forward(self, images: Tensor, stages: Sequence[Tensor]) -> list[Tensor]:
        """Score maps (n, 1, h, w) of images (n, 1, H, W) in [-1, 1] and the frozen network's stages of them."""
        return [self.pixels(images), *(head(s) for head, s in zip(self.heads, stages, strict=True))]


def hinge_loss(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """The critic's: mean over maps of relu(1 - real) + relu(1 + made) (Lim & Ye 2017, arXiv 1705.02894, Eq. 1)."""
    gaps = [F.relu(1 - r).mean() + F.relu(1 + m).mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(gaps).mean()


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2))
