"""A small KL autoencoder for radiographs or colour pictures, with the interface of diffusers' AutoencoderKL.

The encoder is one linear map per patch, the Karhunen-Loeve transform of its images; the decoder is its inverse plus a
convolutional network that adds what crosses patch borders. Most of the decoder's work happens at a quarter of the
image's side, so that decoding does not dominate the time of sampling: see the cost table in docs/results/pictures.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
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


class Finish(nn.Module):
    """What an image gets at its full size: edges from the decoder's features, and grain from noise.

    Args:
        channels: of the decoder's features.
        image_channels: 1 for grey, 3 for colour.
        width: of its own layers.
    """

    NOISE = 2
    """Planes of noise, one as fine as the image and one half as fine."""

    def __init__(self, channels: int, image_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + image_channels + self.NOISE, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, image_channels, 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, features: Tensor, image: Tensor, noise: Tensor) -> Tensor:
        """The finished image (n, c, H, W) of features (n, k, H, W), an image and standard noise (n, 2, H, W)."""
        fine, coarse = noise.split(1, dim=1)
        coarse = F.interpolate(coarse[..., ::2, ::2], scale_factor=2, mode="nearest")
        return image + self.layers(torch.cat([features, image, fine, coarse], dim=1))


class SmallAutoencoderKL(ModelMixin, ConfigMixin):
    """KL autoencoder of grey or colour images in [-1, 1].

    Args:
        latent_channels: channels of the latent, at most `in_channels` times `downscale`^2.
        block_out_channels: width of each stage of the decoder, the first at a quarter of the image's side, each next
            at half of it.
        decoder_layers: residual blocks per stage.
        noise: standard deviation of the posterior, the same everywhere. What is finer is the decoder's to restore: as a
            convolutional network it is better at that than a denoiser of few, large tokens.
        in_channels: 1 for grey, 3 for colour.
        scaling_factor: latents are multiplied by it before diffusion; `set_transform` leaves nothing to scale.
        shift_factor: taken off first.
        seen_channels: how many of the first channels the decoder looks at; all where None. A perceptual decoder draws
            what is finer itself.
        finish_channels: width of the layers that draw grain out of noise at the image's full size; 0 for none.

    Shapes: images (batch, in_channels, H, W), H and W multiples of `downscale`; latents (batch, latent_channels,
    H / downscale, W / downscale).
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        block_out_channels: Sequence[int] = (64, 128, 160),
        decoder_layers: int = 2,
        noise: float = 0.25,
        in_channels: int = 1,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
        seen_channels: int | None = None,
        finish_channels: int = 0,
    ) -> None:
        super().__init__()
        widths, patch = list(block_out_channels), self.downscale
        if latent_channels > in_channels * patch**2:
            raise ModelError(
                f"autoencoder: {latent_channels} latent channels of a {patch}x{patch}x{in_channels} patch, too many"
            )
        self.encoder = nn.Conv2d(in_channels, latent_channels, patch, stride=patch)
        self.inverse = nn.ConvTranspose2d(latent_channels, in_channels, patch, stride=patch)
        first, last = widths[0], widths[-1]
        decoder: list[nn.Module] = [nn.Conv2d(latent_channels, last, 3, padding=1)]
        for width, following in zip(widths[::-1], [*widths[-2::-1], first // 2], strict=True):
            decoder += [ResidualBlock(width) for _ in range(decoder_layers)]
            decoder += [nn.Conv2d(width, following * 4, 3, padding=1), nn.PixelShuffle(2)]
        decoder += [ResidualBlock(first // 2), nn.Conv2d(first // 2, first // 2, 3, padding=1), nn.PixelShuffle(2)]
        self.decoder = nn.Sequential(*decoder, nn.SiLU(), nn.Conv2d(first // 8, in_channels, 3, padding=1))
        nn.init.zeros_(self.decoder[-1].weight)
        nn.init.zeros_(self.decoder[-1].bias)
        self.finish = Finish(first // 8, in_channels, finish_channels) if finish_channels else None

    @property
    def downscale(self) -> int:
        """Image side over latent side."""
        return 4 * 2 ** (len(self.config.block_out_channels) - 1)

    @torch.no_grad()
    def set_transform(self, basis: Tensor, gain: Tensor, mean: Tensor) -> None:
        """Make the encoder a given linear transform and the linear part of the decoder its inverse.

        Args:
            basis: orthonormal columns (in_channels * downscale^2, latent_channels), pixels of a patch row by row, one
                channel after the other.
            gain: (latent_channels,); coefficient k of the patch minus `mean` times gain[k] is latent k.
            mean: of all pixels, (in_channels,).
        """
        filters = rearrange(basis, "(i h w) c -> c i h w", h=self.downscale, w=self.downscale)
        self.encoder.weight.copy_(filters * gain.view(-1, 1, 1, 1))
        self.encoder.bias.copy_(-self.encoder.weight.sum(dim=(2, 3)) @ mean)
        self.inverse.weight.copy_(filters / gain.view(-1, 1, 1, 1))
        self.inverse.bias.copy_(mean)

    @property
    def pixel_gain(self) -> Tensor:
        """Sum of squares over a patch's pixels that a unit of each latent channel makes, (latent_channels,)."""
        return self.inverse.weight.detach().float().square().sum(dim=(1, 2, 3))

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """Posterior over latents of images (batch, in_channels, H, W) in [-1, 1]."""
        channels = self.config.in_channels
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % self.downscale or x.shape[3] % self.downscale:
            raise ModelError(
                f"autoencoder: images are {tuple(x.shape)}, expected (batch, {channels}, H, W), H and W multiples of "
                f"{self.downscale}"
            )
        mean = self.encoder(x)
        logvar = torch.full_like(mean, 2 * torch.tensor(self.config.noise).log().item())
        posterior = DiagonalGaussianDistribution(torch.cat([mean, logvar], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: Generator | list[Generator] | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Images, about in [-1, 1], of unscaled latents; the generators, one for all or one each, make the grain.

        Without a generator, every image has the same noise in its grain.
        """
        if self.config.seen_channels is not None:
            z = z * (torch.arange(z.shape[1], device=z.device) < self.config.seen_channels).to(z).view(-1, 1, 1)
        features = self.decoder[:-1](z)
        image = self.inverse(z) + self.decoder[-1](features)
        if self.finish is not None:
            image = self.finish(features, image, grain(image, generator))
        return DecoderOutput(sample=image) if return_dict else (image,)

    def forward(
        self, sample: Tensor, generator: Generator | None = None
    ) -> tuple[Tensor, DiagonalGaussianDistribution]:
        """Reconstruction of a posterior sample, and the posterior."""
        posterior = self.encode(sample).latent_dist
        return self.decode(posterior.sample(generator)).sample, posterior


def grain(image: Tensor, generator: Generator | list[Generator] | None) -> Tensor:
    """Noise (n, 2, H, W) for `Finish`, of its shape and kind: one image's own, or, without a generator, that of all."""
    n, _, height, width = image.shape
    shape = (n if generator else 1, Finish.NOISE, height, width)
    noise = randn_tensor(shape, generator or Generator().manual_seed(0), device=image.device, dtype=torch.float32)
    return noise.to(image.dtype).expand(n, -1, -1, -1)
