"""Attention processors that apply the regulation of arXiv 2603.04130 while a denoiser samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skiagraph.attention.adapter import adapter_of, replaced
from skiagraph.attention.heatmaps import conditional_rows
from skiagraph.attention.regulate import (
    amplification,
    gate_queries,
    gated_attention,
    gated_attention_and_share,
    omega_map,
    soft_gate,
)
from skiagraph.errors import ModelError

GATES = ("keys", "queries", "both")
"""What Eq. 5's gate is on: pixels that are looked at, pixels that look, or both."""


@dataclass
class Regulation:
    """What is steered, and how strongly.

    anatomy: bool (H, W), the organs that are to hold still (M_anat).
    roi: bool (H, W), where the finding is to be (M_ROI).
    pathology: (batch, tokens), 1 at the finding's tokens.
    organs: (batch, tokens), 1 at tokens that name anatomy, which Eq. 5 gates too; none where None.
    other_organs: the same of the prompts that guidance leads away from.
    both_halves: whether Eq. 5 gates both halves of a guided batch. With the conditional half alone, guidance multiplies
        what the gate does by its scale, also where both prompts are the same.
    eta: strength of Eq. 6; 0 switches it off.
    floor: weight of attention to what lies outside the anatomy (Eq. 5); 1 switches the gate off.
    gate: one of `GATES`.
    renormalise: whether weights gated by key sum to one again.
    amplify: Eq. 6 is applied only while this is set: the early window.
    """

    anatomy: np.ndarray
    roi: np.ndarray
    pathology: Tensor
    organs: Tensor | None = None
    other_organs: Tensor | None = None
    both_halves: bool = True
    eta: float = 1.5
    floor: float = 0.5
    gate: str = "keys"
    renormalise: bool = True
    amplify: bool = True


@contextmanager
def regulated(model: nn.Module, regulation: Regulation) -> Iterator[Regulation]:
    """Steer every attention layer for the length of the block; change the yielded object to switch windows.

    Batches of as many rows as `regulation.pathology` are taken as conditional; of twice as many the second half is, and
    Eq. 6 acts on that half alone.

    Args:
        model: a `UViT2DModel`, or a diffusers U-Net with cross-attention: Eq. 5 on its `attn1` and on what its `attn2`
            takes from organs' tokens, Eq. 6 on its `attn2`.
        regulation: what to do.

    Raises:
        ModelError: a model without attention to text, an unknown gate, or a batch of another size.
    """
    if regulation.gate not in GATES:
        raise ModelError(f"gate {regulation.gate!r} must be one of {', '.join(GATES)}")
    adapter, steerer = adapter_of(model), _Steerer(regulation)
    processors = {name: adapter.steerer(name, steerer) for name in adapter.steerable()}
    with adapter.measured(), replaced(model, processors):
        yield regulation


class _Steerer:
    """Eqs. 5 and 6 on what pixels take from pixels, organs' tokens and the finding's tokens, whatever the network."""

    def __init__(self, regulation: Regulation) -> None:
        self.regulation = regulation
        self.maps: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, size: tuple[int, int],
        pixels: slice | None, text: slice | None,
    ) -> Tensor:  # fmt: skip
        """Regulated in the halves of the batch that it is for; see `skiagraph.attention.adapter.Steer`."""
        rows = conditional_rows(len(query), len(self.regulation.pathology))

        def half(chosen: slice, steer: Callable[..., Tensor]) -> Tensor:
            part = None if mask is None else mask[chosen]
            return steer(query[chosen], key[chosen], value[chosen], part)

        def conditional(*qkvm: Tensor | None) -> Tensor:
            return self._steered(*qkvm, size, pixels, text, self.regulation.organs, amplify=self.regulation.amplify)

        def other(*qkvm: Tensor | None) -> Tensor:
            if not self.regulation.both_halves:
                return F.scaled_dot_product_attention(*qkvm[:3], attn_mask=qkvm[3])
            return self._steered(*qkvm, size, pixels, text, self.regulation.other_organs, amplify=False)

        out = half(rows, conditional)
        return torch.cat([half(slice(0, rows.start), other), out]) if rows.start else out

    def _steered(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, size: tuple[int, int],
        pixels: slice | None, text: slice | None, organs: Tensor | None, *, amplify: bool,
    ) -> Tensor:  # fmt: skip
        r = self.regulation
        anatomy, omega = self._maps(size, query)
        gate = soft_gate(anatomy, r.floor)
        keys, words, share = query.new_ones(key.shape[2]), query.new_zeros(key.shape[2]), None
        if pixels is not None and r.gate != "queries":
            keys[pixels] = gate
        if text is None:
            out = gated_attention(query, key, value, keys, renormalise=r.renormalise, attention_mask=mask)
        elif pixels is None:
            out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            words[text] = 1
            out, share = gated_attention_and_share(
                query, key, value, keys, words, renormalise=r.renormalise, attention_mask=mask
            )
        if pixels is not None and r.gate != "keys":
            out = gate_queries(out, gate)
        if text is None:
            return out
        key, value, mask = key[:, :, text], value[:, :, text], None if mask is None else mask[..., text]
        if r.floor < 1 and organs is not None and organs.any():
            out = out + amplification(query, key, value, _fitted(organs, key), 1 - gate, -1, share, mask)
        if amplify and r.eta:
            out = out + amplification(query, key, value, _fitted(r.pathology, key), omega, r.eta, share, mask)
        return out

    def _maps(self, size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        """(M_anat, Omega) at the layer's resolution, (pixels,) each."""
        if size not in self.maps:
            anatomy = torch.from_numpy(self.regulation.anatomy.astype(np.float32))[None]
            small = F.adaptive_avg_pool2d(anatomy, size).flatten()
            self.maps[size] = small.to(like), omega_map(self.regulation.roi, size).to(like)
        return self.maps[size]


def _fitted(marked: Tensor, keys: Tensor) -> Tensor:
    """Marks of text tokens, as many as there are keys."""
    return marked[:, : keys.shape[2]].to(keys)
