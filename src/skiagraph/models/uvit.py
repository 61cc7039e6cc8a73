"""U-ViT: a transformer denoiser where time, text and latent patches are tokens of one sequence.

Bao et al. 2023 (arXiv 2209.12152) in the text-to-image form that Chest-Diffusion (arXiv 2407.00752) uses.
Self-attention over the joint sequence replaces cross-attention: its image-to-text block is read and steered through
attention processors, in the manner of diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from einops import rearrange
from torch import Tensor, nn

from skiagraph.errors import ModelError
from skiagraph.models.autoencoder import ResidualBlock
from skiagraph.models.blocked_attention import blocked_attention, trained_on_cpu

PRESETS: dict[str, dict[str, Any]] = {
    "XS/2": {"hidden_size": 320, "depth": 8, "num_heads": 5, "patch_size": 2},
    "S/2": {"hidden_size": 512, "depth": 12, "num_heads": 8, "patch_size": 2},
    "S/2-deep": {"hidden_size": 512, "depth": 16, "num_heads": 8, "patch_size": 2},
    "M/2": {"hidden_size": 768, "depth": 16, "num_heads": 12, "patch_size": 2},
    "L/2": {"hidden_size": 1024, "depth": 20, "num_heads": 16, "patch_size": 2},
    "H/2": {"hidden_size": 1152, "depth": 28, "num_heads": 16, "patch_size": 2, "final_conv": False},
}
"""Sizes with the names of the U-ViT paper; XS/2 is this project's own, for a CPU."""


@dataclass(frozen=True)
class TokenLayout:
    """Where the kinds of token lie in the joint sequence: `[time][text x text][patches, row by row]`."""

    text: int
    height: int
    width: int

    @property
    def text_slice(self) -> slice:
        return slice(1, 1 + self.text)

    @property
    def image_slice(self) -> slice:
        return slice(1 + self.text, 1 + self.text + self.height * self.width)


class JointAttnProcessor(Protocol):
    """Computes one block's attention; replace it to read or steer what image tokens take from text tokens."""

    def __call__(
        self, attn: JointAttention, hidden_states: Tensor, attention_mask: Tensor | None, layout: TokenLayout
    ) -> Tensor: ...


class FusedJointAttnProcessor:
    """The default: fused attention, no weight matrix in memory.

    Training on a CPU takes `blocked_attention` instead, which is faster there.
    """

    def __call__(
        self, attn: JointAttention, hidden_states: Tensor, attention_mask: Tensor | None, layout: TokenLayout
    ) -> Tensor:
        q, k, v = attn.project(hidden_states)
        if trained_on_cpu(q):
            return attn.merge(blocked_attention(q, k, v, attention_mask))
        return attn.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask))


class JointAttention(nn.Module):
    """Multi-head self-attention over the joint sequence, delegated to a processor."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.to_out = nn.Linear(dim, dim)
        self.processor: JointAttnProcessor = FusedJointAttnProcessor()

    def project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, heads, tokens, dim / heads)."""
        q, k, v = (self.split(to(hidden_states)) for to in (self.to_q, self.to_k, self.to_v))
        return q, k, v

    def split(self, projected: Tensor) -> Tensor:
        """What one of the projections gave, (batch, tokens, dim), by head: (batch, heads, tokens, dim / heads)."""
        return rearrange(projected, "b n (h d) -> b h n d", h=self.heads)

    def merge(self, heads: Tensor) -> Tensor:
        """Heads (batch, heads, tokens, dim / heads) back to (batch, tokens, dim), projected."""
        return self.to_out(rearrange(heads, "b h n d -> b n (h d)"))

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, layout: TokenLayout) -> Tensor:
        return self.processor(self, hidden_states, attention_mask, layout)


class UViTBlock(nn.Module):
    """Pre-norm transformer block; an out block first folds a skip connection in (Linear of the concatenation)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int, *, skip: bool) -> None:
        super().__init__()
        self.skip_linear = nn.Linear(2 * dim, dim) if skip else None
        self.norm1 = nn.LayerNorm(dim)
        self.attn = JointAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(
        self, x: Tensor, attention_mask: Tensor | None, layout: TokenLayout, skip: Tensor | None = None
    ) -> Tensor:
        if self.skip_linear is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        x = x + self.attn(self.norm1(x), attention_mask, layout)
        return x + self.mlp(self.norm2(x))


class ConvolutionalEnds(nn.Module):
    """Convolutions at the latent's size before and after the transformer: neighbouring latent pixels fit each other.

    Transformer tokens carry the plan of the picture; what a latent pixel owes to its eight neighbours is a
    convolution's to say.
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_size: int, patch_size: int, channels: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.stem = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.from_tokens = nn.Linear(hidden_size, patch_size**2 * channels)
        self.tail = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels), nn.GroupNorm(8, channels))
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def before(self, sample: Tensor) -> Tensor:
        """Features (batch, channels, H, W) of noisy latents (batch, in_channels, H, W), to be cut into patches."""
        return self.stem(self.conv_in(sample))

    def after(self, features: Tensor, tokens: Tensor, layout: TokenLayout) -> Tensor:
        """Prediction (batch, out_channels, H, W) from those features and the last patch tokens (batch, n, D)."""
        joined = features + _unpatchify(self.from_tokens(tokens), layout, self.patch_size)
        return self.conv_out(F.silu(self.tail(joined)))


@dataclass
class UViT2DOutput(BaseOutput):
    """`sample`: predicted noise or velocity, (batch, out_channels, height, width)."""

    sample: Tensor


class UViT2DModel(ModelMixin, ConfigMixin):
    """U-ViT denoiser for latents conditioned on text token states (arXiv 2209.12152; arXiv 2407.00752, section 2.3).

    Args:
        sample_size: side of the square latent, in latent pixels.
        in_channels: channels taken: the latents' and, in an inpainting model, after them those of the mask and of the
            masked image's latents, as in diffusers.
        patch_size: side of one patch token, in latent pixels.
        hidden_size: token width D.
        depth: blocks besides the middle one; half of them in, half out.
        num_heads: attention heads; must divide `hidden_size`.
        text_dim: width of the text states.
        text_tokens: text positions the model has; fewer are accepted, more are an error.
        mlp_ratio: width of the GELU MLP over `hidden_size`.
        final_conv: 3x3 convolution after the patches are put together (H/2 has none).
        out_channels: channels predicted, the first of those taken; as many as are taken where None.
        conv_channels: width of `ConvolutionalEnds` in the place of the linear patch layers, a multiple of 8; 0 for
            none, as in the papers.

    Raises:
        ModelError: sizes that do not divide, or inputs of another shape than the configuration's.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("UViTBlock",)

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 4,
        patch_size: int = 2,
        hidden_size: int = 512,
        depth: int = 12,
        num_heads: int = 8,
        text_dim: int = 768,
        text_tokens: int = 256,
        mlp_ratio: int = 4,
        final_conv: bool = True,
        out_channels: int | None = None,
        conv_channels: int = 0,
    ) -> None:
        super().__init__()
        if hidden_size % num_heads or sample_size % patch_size or depth % 2:
            raise ModelError(
                f"U-ViT: hidden_size {hidden_size} must divide by num_heads {num_heads}, sample_size {sample_size} by "
                f"patch_size {patch_size}, and depth {depth} by 2"
            )
        self.gradient_checkpointing = False
        self.patch_embed = nn.Conv2d(conv_channels or in_channels, hidden_size, patch_size, stride=patch_size)
        self.text_embed = nn.Linear(text_dim, hidden_size)
        tokens = 1 + text_tokens + (sample_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, hidden_size))

        def block(skip: bool) -> UViTBlock:
            return UViTBlock(hidden_size, num_heads, mlp_ratio, skip=skip)

        self.in_blocks = nn.ModuleList(block(False) for _ in range(depth // 2))
        self.mid_block = block(False)
        self.out_blocks = nn.ModuleList(block(True) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(hidden_size)
        predicted = out_channels or in_channels
        self.ends = None
        if conv_channels:
            self.ends = ConvolutionalEnds(in_channels, predicted, hidden_size, patch_size, conv_channels)
        else:
            self.to_patch = nn.Linear(hidden_size, patch_size**2 * predicted)
            self.final_layer = nn.Conv2d(predicted, predicted, 3, padding=1) if final_conv else nn.Identity()
        self.apply(_initialise)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> UViT2DModel:
        """A randomly initialised model of a named size (`PRESETS`), other configuration values by keyword."""
        if name not in PRESETS:
            raise ModelError(f"unknown U-ViT preset {name!r}; known: {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    @property
    def attn_processors(self) -> dict[str, JointAttnProcessor]:
        """Processor of every attention layer by name, in the order of the forward pass."""
        return {f"{n}.processor": m.processor for n, m in self.named_modules() if isinstance(m, JointAttention)}

    def set_attn_processor(self, processor: JointAttnProcessor | dict[str, JointAttnProcessor]) -> None:
        """Give all attention layers one processor, or each its own by the names of `attn_processors`."""
        layers = {f"{n}.processor": m for n, m in self.named_modules() if isinstance(m, JointAttention)}
        if isinstance(processor, dict) and set(processor) - set(layers):
            raise ModelError(f"no such attention layers: {sorted(set(processor) - set(layers))}")
        for name, layer in layers.items():
            if not isinstance(processor, dict):
                layer.processor = processor
            elif name in processor:
                layer.processor = processor[name]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> UViT2DOutput | tuple[Tensor]:
        """Predict the scheduler's target.

        Args:
            sample: noisy latents, (batch, in_channels, sample_size, sample_size).
            timestep: diffusion step, scalar or (batch,), in [0, train timesteps).
            encoder_hidden_states: text token states, (batch, tokens <= text_tokens, text_dim).
            encoder_attention_mask: (batch, tokens), True at real tokens; all are taken as real where None.
            return_dict: a `UViT2DOutput`, else a 1-tuple.
        """
        layout = self._layout(sample, encoder_hidden_states)
        mask = _key_mask(encoder_attention_mask, layout)
        features = sample if self.ends is None else self.ends.before(sample)
        x = self._embed(features, timestep, encoder_hidden_states, layout)
        skips: list[Tensor] = []
        for block in self.in_blocks:
            x = self._run(block, x, mask, layout)
            skips.append(x)
        x = self._run(self.mid_block, x, mask, layout)
        for block in self.out_blocks:
            x = self._run(block, x, mask, layout, skips.pop())
        tokens = self.norm(x[:, layout.image_slice])
        if self.ends is None:
            out = self.final_layer(_unpatchify(self.to_patch(tokens), layout, self.config.patch_size))
        else:
            out = self.ends.after(features, tokens, layout)
        return UViT2DOutput(sample=out) if return_dict else (out,)

    def _run(self, block: UViTBlock, *args: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *args)
        return block(*args)

    def _layout(self, sample: Tensor, text: Tensor) -> TokenLayout:
        c = self.config
        expected = (c.in_channels, c.sample_size, c.sample_size)
        if tuple(sample.shape[1:]) != expected:
            raise ModelError(f"U-ViT: latents are {tuple(sample.shape[1:])}, the model expects {expected}")
        if text.shape[1] > c.text_tokens or text.shape[2] != c.text_dim:
            raise ModelError(
                f"U-ViT: text states are {tuple(text.shape[1:])}, the model takes up to ({c.text_tokens}, {c.text_dim})"
            )
        side = c.sample_size // c.patch_size
        return TokenLayout(text=text.shape[1], height=side, width=side)

    def _embed(self, features: Tensor, timestep: Tensor | float | int, text: Tensor, layout: TokenLayout) -> Tensor:
        timestep = torch.as_tensor(timestep, device=features.device).expand(features.shape[0])
        time = get_timestep_embedding(timestep, self.config.hidden_size, flip_sin_to_cos=True, downscale_freq_shift=0)
        patches = rearrange(self.patch_embed(features), "b d h w -> b (h w) d")
        x = torch.cat([time[:, None].to(patches.dtype), self.text_embed(text), patches], dim=1)
        first_patch = 1 + self.config.text_tokens
        pos = torch.cat([self.pos_embed[:, : 1 + layout.text], self.pos_embed[:, first_patch:]], dim=1)
        return x + pos


def _unpatchify(patches: Tensor, layout: TokenLayout, patch_size: int) -> Tensor:
    h, w, p = layout.height, layout.width, patch_size
    return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=h, w=w, p=p, q=p)


def _key_mask(text_mask: Tensor | None, layout: TokenLayout) -> Tensor | None:
    """(batch, 1, 1, tokens) bool, False where attention must not look: padded text."""
    if text_mask is None:
        return None
    text_mask = text_mask.bool()
    ones = text_mask.new_ones(len(text_mask), 1)
    image = ones.expand(-1, layout.height * layout.width)
    return torch.cat([ones, text_mask, image], dim=1)[:, None, None]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
