"""Attention for training on a CPU, one image of the batch at a time, so that its weights never leave the cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def trained_on_cpu(query: Tensor) -> bool:
    """Whether a gradient is wanted of what is made of `query` on a CPU, where `blocked_attention` is the faster."""
    return query.device.type == "cpu" and query.requires_grad and torch.is_grad_enabled()


def blocked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V as `scaled_dot_product_attention` computes it, with a gradient.

    Forward and backward together take about half the time of PyTorch's own kernels where a sequence has some
    hundred tokens and one core trains, for each image's weights are made, used and differentiated in the cache.

    Args:
        query: (batch, heads, n, d), float32 or bfloat16.
        key: (batch, heads, m, d).
        value: (batch, heads, m, e).
        mask: bool (batch, 1, 1, m), False at keys that are not to be looked at.

    Returns:
        (batch, heads, n, e).
    """
    hidden = [None] * len(query) if mask is None else [(~row).flatten().nonzero()[:, 0] for row in mask]
    return _BlockedAttention.apply(query, key, value, hidden)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, hidden: list[Tensor | None]) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            query = query * query.shape[-1] ** -0.5
            weights = query.new_empty(*query.shape[:-1], key.shape[2])
            out = _empty_by_token(query, value.shape[-1])
            for row, masked in enumerate(hidden):
                scores = torch.bmm(query[row], key[row].transpose(1, 2))
                if masked is not None:
                    scores.index_fill_(-1, masked, float("-inf"))
                torch.softmax(scores, dim=-1, out=weights[row])
                out[row] = torch.bmm(weights[row], value[row])
        ctx.save_for_backward(query, key, value, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, weights = ctx.saved_tensors
        by_query, by_key, by_value = (_empty_by_token(x, x.shape[-1]) for x in (query, key, value))
        for row, attended in enumerate(weights):
            above = upstream[row]
            by_value[row] = torch.bmm(attended.transpose(1, 2), above)
            by_score = torch.bmm(above, value[row].transpose(1, 2)).mul_(attended)
            by_score.sub_(attended * by_score.sum(dim=-1, keepdim=True))
            by_query[row] = torch.bmm(by_score, key[row])
            by_key[row] = torch.bmm(by_score.transpose(1, 2), query[row])
        return by_query.mul_(query.shape[-1] ** -0.5), by_key, by_value, None


def _empty_by_token(like: Tensor, width: int) -> Tensor:
    """An empty (batch, heads, n, width) whose memory has the heads of a token side by side, as projections do."""
    batch, heads, tokens, _ = like.shape
    return like.new_empty(batch, tokens, heads, width).transpose(1, 2)
