"""Mask-guided attention regulation (arXiv 2603.04130): equations as pure functions on fused attention.

Shapes: queries (batch, heads, pixels, d), keys and values (batch, heads, tokens, d). Pixel maps such as a gate or Omega
are (batch, pixels) or (pixels,), in [0, 1]. No pixel-by-token matrix is formed anywhere.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from skiagraph.errors import MaskError


def soft_gate(mask: Tensor, floor: float) -> Tensor:
    """Eq. 5's M_anat, a mask in [0, 1], raised to at least `floor`: what lies outside is weakened and not cut."""
    return floor + (1 - floor) * mask


def gated_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_gate: Tensor,
    *,
    renormalise: bool,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Eq. 5 on keys: attention weights times the gate of the key they go to, applied to the values.

    sum_j A_ij g_j v_j is attention with the values gated. Renormalised, sum_j A_ij g_j v_j / sum_j A_ij g_j is
    attention with log g added to the logits.

    Args:
        query: (batch, heads, pixels, d).
        key: (batch, heads, tokens, d).
        value: (batch, heads, tokens, d).
        key_gate: (batch, tokens) or (tokens,) in [0, 1]; with `renormalise`, not all 0.
        renormalise: whether weights sum to one again.
        attention_mask: additive, broadcastable to (batch, heads, pixels, tokens).

    Returns:
        (batch, heads, pixels, d).
    """
    gate = _per_batch(key_gate)
    if not renormalise:
        return F.scaled_dot_product_attention(query, key, value * gate[:, None, :, None], attn_mask=attention_mask)
    bias = torch.log(gate)[:, None, None].to(query.dtype)
    if attention_mask is not None:
        bias = bias + attention_mask
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def gated_attention_and_share(
    query: Tensor, key: Tensor, value: Tensor, key_gate: Tensor, counted: Tensor, *, renormalise: bool,
    attention_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`gated_attention`, and what share of the ungated weights goes to the `counted` keys, in one pass.

    Two more columns of the values collect, for every query, the weights on counted keys and on the others, each over
    its gate. A gate below 1e-6 is taken for that.

    Args:
        counted: (tokens,), 1 at keys to count, else 0; the other arguments are those of `gated_attention`.

    Returns:
        (batch, heads, pixels, d), and the share (batch, heads, pixels).
    """
    gate, width = _per_batch(key_gate).clamp_min(1e-6), query.shape[-1]
    columns = torch.stack([counted / gate, (1 - counted) / gate], dim=-1).to(value.dtype)[:, None]
    value = torch.cat([value, columns.expand(*value.shape[:3], 2)], dim=-1)
    query = F.pad(query * ((width + 2) / width) ** 0.5, (0, 2))
    out = gated_attention(
        query, F.pad(key, (0, 2)), value, gate, renormalise=renormalise, attention_mask=attention_mask
    )
    here, elsewhere = out[..., width:].unbind(dim=-1)
    return out[..., :width], here / (here + elsewhere)


def gate_queries(output: Tensor, query_gate: Tensor) -> Tensor:
    """Eq. 5 on queries: every weight of a pixel times that pixel's gate, which is the output times the gate.

    Args:
        output: of attention, (batch, heads, pixels, d).
        query_gate: (batch, pixels) or (pixels,) in [0, 1].
    """
    return output * _per_batch(query_gate)[:, None, :, None]


def amplification(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Tensor,
    omega: Tensor,
    eta: float,
    share: Tensor | None = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """What Eq. 6 adds to attention's output: eta * Omega times attention with all other tokens' values at zero.

    Args:
        query: (batch, heads, pixels, d).
        key: (batch, heads, tokens, d), of words.
        value: (batch, heads, tokens, d).
        tokens: (batch, tokens) or (tokens,), 1 at the pathology's tokens, 0 elsewhere.
        omega: (batch, pixels) or (pixels,) in [0, 1].
        eta: strength, at least 0.
        share: (batch, heads, pixels), of the attention that goes to words where keys are not words alone.
        attention_mask: broadcastable to (batch, heads, pixels, tokens).

    Returns:
        (batch, heads, pixels, d), to be added to the attention's output.
    """
    chosen = value * _per_batch(tokens)[:, None, :, None]
    pathology = F.scaled_dot_product_attention(query, key, chosen, attn_mask=attention_mask)
    scale = eta * _per_batch(omega)[:, None, :, None]
    return scale * pathology if share is None else scale * share[..., None] * pathology


def localisation_score(maps: Tensor, omega: Tensor) -> Tensor:
    """Eq. 7: <A, Omega> / <A, 1> of attention maps: the share of attention that lies in the region.

    Args:
        maps: (..., pixels), not negative.
        omega: (pixels,) or broadcastable, in [0, 1].

    Returns:
        (...) in [0, 1].
    """
    return (maps * omega).sum(dim=-1) / maps.sum(dim=-1).clamp_min(1e-8)


def localisation_loss(scores: Tensor) -> Tensor:
    """Eq. 8: 1 minus the mean score of the pathology's tokens, (..., tokens) to (...)."""
    return 1 - scores.mean(dim=-1)


def corrected_latents(latents: Tensor, gradient: Tensor, alpha: float) -> Tensor:
    """Eq. 9: one gradient step on the latents."""
    return latents - alpha * gradient


def step_size(index: int, window: int, start: float = 0.05) -> float:
    """alpha of Eq. 9 at a step of the early window: falls linearly from `start` to 0 at the window's end, 0 beyond."""
    return start * max(0.0, 1 - index / window) if window > 0 else 0.0


def in_window(index: int, steps: int, share: float, *, literal: bool = False) -> bool:
    """Whether regulation is on at a sampling step.

    Args:
        index: of the step, 0 at the noisiest.
        steps: of the whole run.
        share: mu of the paper.
        literal: the formula as printed, t < mu T: the late window. Its text and the default say the early one.
    """
    return index >= steps - share * steps if literal else index < share * steps


def omega_map(roi: np.ndarray, size: tuple[int, int], blur: float = 1.0) -> Tensor:
    """Omega = Normalize(Blur(M_ROI(q))): the region at a layer's resolution, blurred, its maximum 1.

    Args:
        roi: bool (H, W).
        size: (h, w) of the layer.
        blur: standard deviation in the layer's pixels.

    Returns:
        float32 (h * w,) in [0, 1].

    Raises:
        MaskError: an empty region.
    """
    if roi.ndim != 2 or not roi.any():
        raise MaskError(f"region of interest {roi.shape} is empty; name one that the picture shows")
    small = F.adaptive_avg_pool2d(torch.from_numpy(roi.astype(np.float32))[None], size)[0].numpy()
    blurred = ndimage.gaussian_filter(small, blur)
    return torch.from_numpy(blurred / blurred.max()).flatten()


def _per_batch(values: Tensor) -> Tensor:
    return values[None] if values.ndim == 1 else values
