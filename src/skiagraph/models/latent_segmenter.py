"""One-step latent-diffusion segmentation, after SynDiff (arXiv 2507.15361) and SDSeg (arXiv 2406.18361).

Masks are latents of a frozen autoencoder; a denoiser sees a noisy one beside what a vision encoder makes of the image
and predicts the clean one. Decoded, it is the segmentation: after one pass of the denoiser, or after many of DDIM.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import Encoder
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn

from skiagraph.devices import seeded
from skiagraph.errors import ModelError
from skiagraph.models.imagenet_stages import ImageNetStages
from skiagraph.models.mask_codec import KLCodec, PatchCodec
from skiagraph.models.noising import clean_from_noise
from skiagraph.models.segmenter import LUNGS, check_images

TIMESTEPS = 1000
NOISE_LIKE = 0.05
"""abar up to which a noisy latent is so close to pure noise that a denoiser cannot tell them apart."""

DENOISER_BLOCKS: dict[str, dict[str, Any]] = {
    "plain": {"norm_num_groups": 8},
    "ldm": {
        "norm_num_groups": 32, "attn_norm_num_groups": 32, "resnet_time_scale_shift": "scale_shift",
        "downsample_type": "resnet", "upsample_type": "resnet",
    },
}  # fmt: skip
"""Kinds of U-Net: a small one, and that of latent diffusion (arXiv 2112.10752, LSUN churches), which SDSeg takes over:
the time scales and shifts, residual blocks halve and double, and attention has `LDM_HEADS` heads at every level."""

LDM_HEADS = 8
HEAD_WIDTH = 32
"""Channels of a head in "plain" blocks; heads of either kind need levels of whole multiples of it."""


class PatchVision(nn.Module):
    """A vision encoder tau: coefficients of the image's patches, and what a convolutional encoder learns to add.

    Args:
        in_channels: of the images.
        coefficients: kept of each patch of each image channel.
        patch: side of a patch in pixels, a power of two from 4 on; features have the image's side over it.
        channels: width of the convolutional encoder at a quarter of the image's side; doubled with every halving.
    """

    def __init__(self, in_channels: int, coefficients: int, patch: int, channels: int) -> None:
        super().__init__()
        self.patches = PatchCodec(coefficients, patch)
        self.out_channels = in_channels * coefficients
        levels = int(math.log2(patch)) - 1
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            Encoder(
                16 * in_channels, self.out_channels, ("DownEncoderBlock2D",) * levels,
                [channels * 2**level for level in range(levels)], layers_per_block=1, norm_num_groups=8,
                double_z=False, mid_block_add_attention=False,
            ),
        )  # fmt: skip
        nn.init.zeros_(self.encoder[1].conv_out.weight)
        nn.init.zeros_(self.encoder[1].conv_out.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, in_channels * coefficients, H / patch, W / patch)."""
        return _each_channel(self.patches.encode, images) + self.encoder(images)


class ImageNetVision(nn.Module):
    """A vision encoder tau: coefficients of the image's patches, and the stages of a network that ImageNet taught.

    Its first layers, which work at more than an eighth of the image's side, stay as ImageNet left them.

    Args:
        in_channels: of the images.
        coefficients: kept of each patch of each image channel.
        patch: side of a patch in pixels; features have the image's side over it.
        network: one of `skiagraph.models.imagenet_stages.NETWORKS`.
    """

    def __init__(self, in_channels: int, coefficients: int, patch: int, network: str) -> None:
        super().__init__()
        self.patches = PatchCodec(coefficients, patch)
        self.stages = ImageNetStages(network, trained=False)
        self.out_channels = in_channels * coefficients + sum(self.stages.widths[1:])

    def begin(self, network: str) -> None:
        """Take over ImageNet's weights and hold the early ones still."""
        self.stages.load_state_dict(ImageNetStages(network).state_dict())
        self.stages.freeze(downscale=8)

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, out_channels, H / patch, W / patch) of images whose sides are multiples of 32."""
        coefficients = _each_channel(self.patches.encode, images)
        seen = [F.group_norm(stage, 1) for stage in self.stages(images)[1:]]
        size = coefficients.shape[-2:]
        return torch.cat([coefficients, *(F.interpolate(s, size, mode="bilinear") for s in seen)], dim=1)


class KLVision(nn.Module):
    """A vision encoder tau as in SDSeg: a copy of the mask autoencoder's encoder and a 1x1 convolution."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.in_channels, self.out_channels = autoencoder.config.in_channels, autoencoder.config.latent_channels
        self.encoder = copy.deepcopy(autoencoder.encoder).requires_grad_(True)
        self.project = nn.Conv2d(2 * self.out_channels, self.out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, latent channels, H / 8, W / 8) for kl-f8."""
        return self.project(self.encoder(images.expand(-1, self.in_channels, -1, -1)))


class LatentSegmenter(ModelMixin, ConfigMixin):
    """A segmenter that denoises mask latents.

    Args:
        classes: names, background first; every other class is a mask picture with latents of its own.
        in_channels: of the images, 1 or 3.
        working_size: side in pixels at which it looks; inputs are resampled to it and scores back.
        patch: side of a mask's and an image's patches in pixels.
        mask_coefficients: latent channels of a class.
        vision_coefficients: and of an image channel.
        vision_channels: width of the convolutional vision encoder.
        vision_network: one of `imagenet_stages.NETWORKS` in its place; the working size is a multiple of 32.
        denoiser_channels: of the U-Net, level by level.
        denoiser_layers: residual layers of a level on the way down; on the way up there is one more.
        denoiser_attention: number of levels, from the finest, whose layers are followed by self-attention. The middle
            block always attends.
        denoiser_blocks: a key of `DENOISER_BLOCKS`.
        denoiser_dropout: share of values dropped in its residual layers while training.
        prediction_type: "sample", the denoiser predicts the clean latent, or "epsilon", the noise. An error of the
            latter grows 38-fold on the way to the clean latent at timestep 999: train it in full precision.
        timestep: of the single step, 0 to 999.
        one_step_share: share of training batches that saw pure noise at `timestep`, as the single step does; 0: all saw
            masks noised to a uniform timestep, 1: none did, and only single steps make sense.
        autoencoder: configuration of a diffusers AutoencoderKL for the masks, whose encoder is also what the vision
            encoder begins as; None for the linear transforms.
        one_piece: as of `skiagraph.models.segmenter.Segmenter`.
        least_agreement: as there.
    """

    @register_to_config
    def __init__(
        self,
        classes: Sequence[str] = LUNGS,
        in_channels: int = 1,
        working_size: int = 256,
        patch: int = 8,
        mask_coefficients: int = 8,
        vision_coefficients: int = 16,
        vision_channels: int = 32,
        vision_network: str | None = None,
        denoiser_channels: Sequence[int] = (64, 96, 128),
        denoiser_layers: int = 1,
        denoiser_attention: int = 0,
        denoiser_blocks: str = "plain",
        denoiser_dropout: float = 0.0,
        prediction_type: str = "sample",
        timestep: int = 999,
        one_step_share: float = 0.5,
        autoencoder: Mapping[str, Any] | None = None,
        one_piece: bool = False,
        least_agreement: float = 0.0,
    ) -> None:
        super().__init__()
        if prediction_type not in ("sample", "epsilon") or not 0 <= timestep < TIMESTEPS:
            raise ModelError(
                f"latent segmenter: prediction_type {prediction_type!r} must be sample or epsilon, timestep {timestep} "
                f"0 to {TIMESTEPS - 1}"
            )
        if vision_network and (autoencoder or working_size % 32):
            raise ModelError(
                f"latent segmenter: vision_network {vision_network} takes no autoencoder beside it, and a working size "
                f"that is a multiple of 32; it is {working_size}"
            )
        if autoencoder is not None:
            self.codec = KLCodec(AutoencoderKL.from_config(autoencoder))
            self.vision = KLVision(self.codec.autoencoder)
        else:
            self.codec = PatchCodec(mask_coefficients, patch)
            self.vision = (
                ImageNetVision(in_channels, vision_coefficients, patch, vision_network)
                if vision_network
                else PatchVision(in_channels, vision_coefficients, patch, vision_channels)
            )
        latents = self.codec.channels * (len(classes) - 1)
        self.denoiser = latent_unet(
            latents + self.vision.out_channels, latents, denoiser_channels, denoiser_layers, denoiser_attention,
            denoiser_blocks, denoiser_dropout,
        )  # fmt: skip
        self.latent_shape = (latents, *(working_size // self.codec.downscale,) * 2)
        self.scheduler = DDIMScheduler(
            num_train_timesteps=TIMESTEPS, beta_start=0.0015, beta_end=0.0155, beta_schedule="scaled_linear",
            clip_sample=False, timestep_spacing="trailing", prediction_type=prediction_type,
        )  # fmt: skip

    def abar(self, timesteps: Tensor) -> Tensor:
        """Cumulative product of 1 - beta, float32 (n, 1, 1, 1), at timesteps (n,)."""
        products = self.scheduler.alphas_cumprod.to(timesteps.device)
        return products[timesteps].view(-1, 1, 1, 1)

    def encode_masks(self, labels: Tensor) -> Tensor:
        """Clean latents (batch, *latent_shape), float32, of label maps (batch, working_size, working_size)."""
        inside = F.one_hot(labels.long(), len(self.config.classes))[..., 1:].movedim(-1, 1)
        return _each_channel(self.codec.encode, inside.float() * 2 - 1).float()

    def decode_masks(self, latents: Tensor) -> Tensor:
        """Scores (batch, classes, working_size, working_size), float32, background first with 0 everywhere.

        A class scores +1 inside and -1 outside, so a pixel is background where no class is above 0.
        """
        apart = rearrange(latents, "b (k c) h w -> (b k) c h w", c=self.codec.channels)
        inside = rearrange(self.codec.decode(apart), "(b k) 1 h w -> b k h w", b=len(latents)).float()
        return torch.cat([torch.zeros_like(inside[:, :1]), inside], dim=1)

    def forward(self, noisy: Tensor, timesteps: Tensor, images: Tensor) -> Tensor:
        """The clean latents predicted, float32 (batch, *latent_shape), whatever the denoiser itself predicts.

        Args:
            noisy: mask latents (batch, *latent_shape).
            timesteps: int (batch,).
            images: (batch, in_channels, working_size, working_size) in [-1, 1].
        """
        return self._clean(noisy, timesteps, self.vision(images))

    @torch.no_grad()
    def scores(self, images: Tensor, *, steps: int = 1, timestep: int | None = None, seed: int = 0) -> Tensor:
        """Scores (batch, classes, H, W) of images (batch, in_channels, H, W) in [-1, 1]; the highest is the class.

        Every image is denoised from the same noise, so that nothing depends on the batch.

        Args:
            images: as said.
            steps: 1 for the single step, more for DDIM (Song et al. 2021, arXiv 2010.02502).
            timestep: of the single step; the model's own where None.
            seed: of the noise.

        Raises:
            ModelError: images of another shape, or more steps than there are timesteps.
        """
        check_images(images, self.config.in_channels)
        if not 1 <= steps <= TIMESTEPS:
            raise ModelError(f"latent segmenter: {steps} steps; 1 to {TIMESTEPS} can be taken")
        size = (self.config.working_size,) * 2
        small = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
        features = self.vision(small.to(self.dtype))
        noise = torch.randn(self.latent_shape, generator=seeded(seed))
        noise = noise.to(features.device).expand(len(images), -1, -1, -1)
        if steps == 1:
            latents = self._single_step(noise, features, self.config.timestep if timestep is None else timestep)
        else:
            latents = self._many_steps(noise, features, steps)
        return F.interpolate(self.decode_masks(latents.to(self.dtype)), images.shape[-2:], mode="bilinear")

    def segment(self, images: Tensor, *, steps: int = 1, seed: int = 0) -> Tensor:
        """Class index (batch, H, W), uint8, of images (batch, in_channels, H, W) in [-1, 1]; see `scores`."""
        return self.scores(images, steps=steps, seed=seed).argmax(dim=1).to(torch.uint8)

    def draws(self, images: Tensor, count: int, *, steps: int = 1, seed: int = 0) -> Tensor:
        """Scores (count, batch, classes, H, W) from `count` draws of noise, seeds `seed`, `seed` + 1, ...

        A model trained for the single step learns to ignore its noise: draws then differ little, and say how well it
        has learned that. With ten steps or more they spread over the masks the image leaves open.
        """
        return torch.stack([self.scores(images, steps=steps, seed=seed + index) for index in range(count)])

    def _clean(self, noisy: Tensor, timesteps: Tensor, features: Tensor) -> Tensor:
        output = self.denoiser(torch.cat([noisy.to(features), features], dim=1), timesteps).sample.float()
        if self.config.prediction_type == "sample":
            return output
        return clean_from_noise(noisy, output, self.abar(timesteps))

    def _single_step(self, noise: Tensor, features: Tensor, timestep: int) -> Tensor:
        trained_for = self.config.one_step_share > 0 and timestep == self.config.timestep
        if not trained_for and self.scheduler.alphas_cumprod[timestep] > NOISE_LIKE:
            warnings.warn(
                f"a single step at timestep {timestep} is fed pure noise, which this model never saw there: expect "
                "poor masks; train for it (one_step_share above 0) or use timestep 999",
                stacklevel=3,
            )
        return self._clean(noise, torch.full((len(noise),), timestep, device=noise.device), features)

    def _many_steps(self, noise: Tensor, features: Tensor, steps: int) -> Tensor:
        if self.config.one_step_share == 1:
            warnings.warn("this model was trained for a single step only; more will not do better", stacklevel=3)
        self.scheduler.set_timesteps(steps)
        latents = noise
        for timestep in self.scheduler.timesteps:
            batch = timestep.to(noise.device).expand(len(noise))
            output = self.denoiser(torch.cat([latents.to(features), features], dim=1), batch).sample.float()
            latents = self.scheduler.step(output, timestep, latents).prev_sample
        return latents


def latent_unet(
    in_channels: int, out_channels: int, channels: Sequence[int], layers: int, attention: int, blocks: str,
    dropout: float,
) -> UNet2DModel:  # fmt: skip
    """The U-Net that denoises mask latents; see `LatentSegmenter` for what `channels` to `dropout` say.

    With blocks "ldm", channels 192, 384, 384, 768, 768, two layers and attention at the four finest levels it is the
    U-Net of SDSeg's published code (arXiv 2406.18361): the same weights, layer by layer.

    Raises:
        ModelError: unknown blocks, more levels of attention than there are, or channels that do not divide.
    """
    levels = len(channels)
    if blocks not in DENOISER_BLOCKS or not 0 <= attention <= levels:
        raise ModelError(
            f"latent segmenter: denoiser_blocks {blocks!r} must be one of {', '.join(DENOISER_BLOCKS)}, and "
            f"denoiser_attention {attention} 0 to {levels}"
        )
    groups = DENOISER_BLOCKS[blocks]["norm_num_groups"]
    if any(c % groups for c in channels) or any(c % HEAD_WIDTH for c in (*channels[:attention], channels[-1])):
        raise ModelError(
            f"latent segmenter: denoiser_channels {list(channels)} must be multiples of {groups}, and of {HEAD_WIDTH} "
            "where there is attention and at the last level"
        )
    down, up = ("DownBlock2D", "UpBlock2D") if blocks == "plain" else _RESAMPLING_BLOCKS
    attend = [level < attention for level in range(levels)]
    unet = UNet2DModel(
        in_channels=in_channels, out_channels=out_channels, block_out_channels=tuple(channels),
        down_block_types=tuple("AttnDownBlock2D" if a else down for a in attend),
        up_block_types=tuple("AttnUpBlock2D" if a else up for a in reversed(attend)),
        layers_per_block=layers, attention_head_dim=HEAD_WIDTH, dropout=dropout, **DENOISER_BLOCKS[blocks],
    )  # fmt: skip
    if blocks == "ldm":
        _set_heads(unet, LDM_HEADS)
    return unet


_RESAMPLING_BLOCKS = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")


def _set_heads(unet: UNet2DModel, heads: int) -> None:
    """Split every attention layer into so many heads; diffusers can only be told their width, one for all levels."""
    for layer in unet.modules():
        if isinstance(layer, Attention):
            layer.heads, layer.scale = heads, (layer.inner_dim // heads) ** -0.5


def vote_entropy(draws: Tensor) -> Tensor:
    """Uncertainty of each pixel: entropy of the draws' votes over its entropy if all classes had equally many.

    Args:
        draws: scores (count, batch, classes, H, W).

    Returns:
        float32 (batch, H, W) in [0, 1], 0 where all draws agree.
    """
    classes = draws.shape[2]
    shares = F.one_hot(draws.argmax(dim=2), classes).float().mean(dim=0)
    return torch.special.entr(shares).sum(dim=-1) / math.log(classes)


def _each_channel(work: Any, pictures: Tensor) -> Tensor:
    """A codec's `work` on every channel of (batch, k, H, W), the results side by side as channels."""
    done = work(rearrange(pictures, "b k h w -> (b k) 1 h w"))
    return rearrange(done, "(b k) c h w -> b (k c) h w", b=len(pictures))
