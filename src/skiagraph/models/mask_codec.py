"""Frozen autoencoders of masks: a linear transform of patches, and diffusers' AutoencoderKL as in the paper.

Both take pictures of one channel in [-1, 1], +1 inside, and give latents of about unit variance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from einops import rearrange
from torch import Tensor, nn


class PatchCodec(nn.Module):
    """A linear transform of square patches whose inverse is its transpose: decoding costs next to nothing.

    Args:
        channels: coefficients kept of each patch.
        patch: side of a patch in pixels.
    """

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.channels, self.downscale = channels, patch
        self.register_buffer("basis", torch.eye(patch**2, channels))
        self.register_buffer("gain", torch.ones(channels))
        self.register_buffer("mean", torch.zeros(()))

    @torch.no_grad()
    def set_transform(self, basis: Tensor, gain: Tensor, mean: Tensor) -> None:
        """As `SmallAutoencoderKL.set_transform`: orthonormal columns, a gain of each, and the pixels' mean."""
        self.basis.copy_(basis)
        self.gain.copy_(gain)
        self.mean.copy_(mean.squeeze())

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (n, channels, H / patch, W / patch) of pictures (n, 1, H, W)."""
        return F.conv2d(pictures - self.mean, self._filters(self.gain), stride=self.downscale)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (n, 1, H, W) of latents."""
        return F.conv_transpose2d(latents, self._filters(1 / self.gain), stride=self.downscale) + self.mean

    def _filters(self, gain: Tensor) -> Tensor:
        return rearrange(self.basis * gain, "(h w) c -> c 1 h w", h=self.downscale)


class KLCodec(nn.Module):
    """Diffusers' AutoencoderKL, such as kl-f8: the mask repeated over its input channels, their mean when decoded.

    Args:
        autoencoder: with its weights; they stay as they are.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False)
        self.channels = autoencoder.config.latent_channels
        self.downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (n, channels, H / downscale, W / downscale) of pictures (n, 1, H, W): scaled modes."""
        repeated = pictures.expand(-1, self.autoencoder.config.in_channels, -1, -1)
        return self.autoencoder.encode(repeated).latent_dist.mode() * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (n, 1, H, W) of latents."""
        return self.autoencoder.decode(latents / self.scale).sample.mean(dim=1, keepdim=True)
