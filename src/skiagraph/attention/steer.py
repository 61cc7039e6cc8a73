"""Attention processors that apply the regulation of arXiv 2603.04130 while a denoiser samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiagraph.attention.regulate import amplification, gated_attention, omega_map, soft_gate
from skiagraph.errors import ModelError
from skiagraph.models.uvit import JointAttention, TokenLayout, UViT2DModel


@dataclass
class Regulation:
    """What is steered, and how strongly.

    anatomy: bool (H, W), the organs that are to hold still (M_anat).
    roi: bool (H, W), where the finding is to be (M_ROI).
    pathology: (batch, tokens), 1 at the finding's tokens.
    eta: strength of Eq. 6; 0 switches it off.
    floor: weight of attention to what lies outside the anatomy (Eq. 5); 1 switches the gate off.
    renormalise: whether gated weights sum to one again.
    amplify: Eq. 6 is applied only while this is set: the early window.
    """

    anatomy: np.ndarray
    roi: np.ndarray
    pathology: Tensor
    eta: float = 1.5
    floor: float = 0.5
    renormalise: bool = True
    amplify: bool = True


@contextmanager
def regulated(model: nn.Module, regulation: Regulation) -> Iterator[Regulation]:
    """Steer every attention layer of a U-ViT for the length of the block; change the yielded object to switch windows.

    Batches of as many rows as `regulation.pathology` are taken as conditional; of twice as many the second half is.

    Raises:
        ModelError: a model that is not a U-ViT.
    """
    if not isinstance(model, UViT2DModel):
        raise ModelError(f"{type(model).__name__} is not a UViT2DModel; only those can be steered")
    before = model.attn_processors
    model.set_attn_processor(_RegulatedJointAttnProcessor(regulation))
    try:
        yield regulation
    finally:
        model.set_attn_processor(before)


class _RegulatedJointAttnProcessor:
    """Eqs. 5 and 6 on what image tokens take from image tokens and from the finding's tokens."""

    def __init__(self, regulation: Regulation) -> None:
        self.regulation = regulation
        self.maps: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, attn: JointAttention, states: Tensor, mask: Tensor | None, layout: TokenLayout) -> Tensor:
        r = self.regulation
        q, k, v = attn.project(states)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        rows = slice(len(states) - len(r.pathology), len(states))
        image, keys, values = q[rows, :, layout.image_slice], k[rows], v[rows]
        bias = _additive(mask, rows, states.dtype)
        anatomy, omega = self._maps(layout, states)
        steered = out[rows, :, layout.image_slice]
        if r.floor < 1:
            gate = states.new_ones(k.shape[2])
            gate[layout.image_slice] = soft_gate(anatomy, r.floor)
            steered = gated_attention(image, keys, values, gate, renormalise=r.renormalise, attention_mask=bias)
        if r.amplify and r.eta:
            tokens = states.new_zeros(len(r.pathology), k.shape[2])
            tokens[:, layout.text_slice] = r.pathology[:, : layout.text].to(states)
            steered = steered + amplification(image, keys, values, tokens, omega, r.eta, bias)
        out = out.clone()
        out[rows, :, layout.image_slice] = steered
        return attn.merge(out)

    def _maps(self, layout: TokenLayout, states: Tensor) -> tuple[Tensor, Tensor]:
        """(M_anat, Omega) at the layer's resolution, (pixels,) each."""
        size = (layout.height, layout.width)
        if size not in self.maps:
            anatomy = torch.from_numpy(self.regulation.anatomy.astype(np.float32))[None]
            small = F.adaptive_avg_pool2d(anatomy, size).flatten()
            self.maps[size] = small.to(states), omega_map(self.regulation.roi, size).to(states)
        return self.maps[size]


def _additive(mask: Tensor | None, rows: slice, dtype: torch.dtype) -> Tensor | None:
    if mask is None:
        return None
    return torch.zeros(mask[rows].shape, dtype=dtype, device=mask.device).masked_fill(~mask[rows], float("-inf"))
