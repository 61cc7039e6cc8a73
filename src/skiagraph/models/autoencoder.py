"""A small KL autoencoder for one-channel radiographs, with the interface of diffusers' AutoencoderKL.

Most of the work happens at a quarter of the image's side (pixel-unshuffle stem), so that decoding does not dominate the
time of sampling: see the cost table in docs/results.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Generator, Tensor, nn

from skiagraph.errors import ModelError


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


def _down(channels: int, out: int, factor: int = 2) -> nn.Module:
    return nn.Sequential(nn.PixelUnshuffle(factor), nn.Conv2d(channels * factor**2, out, 3, padding=1))


def _up(channels: int, out: int, factor: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out * factor**2, 3, padding=1), nn.PixelShuffle(factor))


class SmallAutoencoderKL(ModelMixin, ConfigMixin):
    """KL autoencoder of greyscale images in [-1, 1].

    Args:
        in_channels: image channels.
        latent_channels: channels of the latent.
        block_out_channels: width of each stage, the first at a quarter of the image's side, each next at half of it.
        encoder_layers: residual blocks per encoder stage.
        decoder_layers: residual blocks per decoder stage.
        scaling_factor: latents are multiplied by it before diffusion; 1 / standard deviation of the training latents.
        shift_factor: mean of the training latents, taken off first.

    Shapes: images (batch, in_channels, H, W), H and W multiples of `downscale`; latents (batch, latent_channels,
    H / downscale, W / downscale).
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        latent_channels: int = 8,
        block_out_channels: Sequence[int] = (64, 128, 192),
        encoder_layers: int = 1,
        decoder_layers: int = 2,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        widths = list(block_out_channels)
        first, last = widths[0], widths[-1]
        encoder: list[nn.Module] = [_down(in_channels, first, factor=4)]
        for width, following in zip(widths, [*widths[1:], None], strict=True):
            encoder += [ResidualBlock(width) for _ in range(encoder_layers)]
            if following:
                encoder.append(_down(width, following))
        self.encoder = nn.Sequential(
            *encoder, nn.GroupNorm(8, last), nn.SiLU(), nn.Conv2d(last, 2 * latent_channels, 3, padding=1)
        )
        decoder: list[nn.Module] = [nn.Conv2d(latent_channels, last, 3, padding=1)]
        for width, following in zip(widths[::-1], [*widths[-2::-1], first // 2], strict=True):
            decoder += [ResidualBlock(width) for _ in range(decoder_layers)]
            decoder.append(_up(width, following))
        self.decoder = nn.Sequential(
            *decoder, ResidualBlock(first // 2), _up(first // 2, first // 8), nn.SiLU(),
            nn.Conv2d(first // 8, in_channels, 3, padding=1),
        )  # fmt: skip

    @property
    def downscale(self) -> int:
        """Image side over latent side."""
        return 4 * 2 ** (len(self.config.block_out_channels) - 1)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """Posterior over latents of images (batch, in_channels, H, W) in [-1, 1]."""
        if (
            x.ndim != 4
            or x.shape[1] != self.config.in_channels
            or x.shape[2] % self.downscale
            or x.shape[3] % self.downscale
        ):
            raise ModelError(
                f"autoencoder: images are {tuple(x.shape)}, expected (batch, {self.config.in_channels}, H, W), H and W "
                f"multiples of {self.downscale}"
            )
        posterior = DiagonalGaussianDistribution(self.encoder(x))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Images, about in [-1, 1], of unscaled latents. `generator` is accepted for diffusers and unused."""
        image = self.decoder(z)
        return DecoderOutput(sample=image) if return_dict else (image,)

    def forward(
        self, sample: Tensor, generator: Generator | None = None
    ) -> tuple[Tensor, DiagonalGaussianDistribution]:
        """Reconstruction of a posterior sample, and the posterior."""
        posterior = self.encode(sample).latent_dist
        return self.decode(posterior.sample(generator)).sample, posterior
