"""Reading what image tokens take from text tokens in a U-ViT's joint attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from skiagraph.errors import ModelError
from skiagraph.models.uvit import JointAttention, TokenLayout, UViT2DModel


def image_to_text_attention(query: Tensor, key: Tensor, attention_mask: Tensor | None, layout: TokenLayout) -> Tensor:
    """The image-to-text block of softmax(QK^T / sqrt(d)), the part that cross-attention plays elsewhere.

    Args:
        query: (batch, heads, tokens, head dim).
        key: (batch, heads, tokens, head dim).
        attention_mask: (batch, 1, 1, tokens) bool, False where not to look; None for all.
        layout: where image and text tokens lie.

    Returns:
        float32 (batch, heads, height * width, text); rows sum to at most 1, the rest going to image and time tokens.
    """
    logits = torch.matmul(query[:, :, layout.image_slice], key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
    if attention_mask is not None:
        logits = logits.masked_fill(~attention_mask, float("-inf"))
    return torch.exp(logits[..., layout.text_slice] - logits.logsumexp(dim=-1, keepdim=True))


class RecordingJointAttnProcessor:
    """Fused attention that also keeps the head-averaged image-to-text block of its last call, with gradient."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def __call__(
        self, attn: JointAttention, hidden_states: Tensor, attention_mask: Tensor | None, layout: TokenLayout
    ) -> Tensor:
        q, k, v = attn.project(hidden_states)
        weights = image_to_text_attention(q, k, attention_mask, layout).mean(dim=1)
        self.last = weights.unflatten(1, (layout.height, layout.width)).permute(0, 3, 1, 2)
        return attn.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask))


@contextmanager
def record_text_attention(
    model: UViT2DModel, layers: Sequence[str] | None = None
) -> Iterator[dict[str, RecordingJointAttnProcessor]]:
    """Record the named layers (keys of `model.attn_processors`; all where None) for the length of the block.

    Yields the recording processors by layer; after a forward pass each `last` is (batch, text, height, width).

    Raises:
        ModelError: a layer the model does not have.
    """
    before = model.attn_processors
    unknown = set(layers or ()) - set(before)
    if unknown:
        raise ModelError(f"no such attention layers: {sorted(unknown)}; the model has {list(before)}")
    recorders = {name: RecordingJointAttnProcessor() for name in (before if layers is None else layers)}
    model.set_attn_processor(dict(recorders))
    try:
        yield recorders
    finally:
        model.set_attn_processor(before)


def middle_layers(model: UViT2DModel) -> list[str]:
    """The middle block, where words point: image tokens have taken up the text there and are still spatial."""
    return ["mid_block.attn.processor"]
