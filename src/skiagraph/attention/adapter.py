"""How a denoiser's attention to text is read and replaced: one adapter for each kind of network, chosen here alone.

Captured maps, grounding and regulation are written for queries of pixels and keys that hold the words, and know nothing
of where a network keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from skiagraph.errors import ModelError
from skiagraph.models.uvit import JointAttention, JointAttnProcessor, TokenLayout, UViT2DModel


@dataclass(frozen=True)
class Heard:
    """What one layer attends with in one forward pass.

    query: of pixels, (rows, heads, pixels, d).
    key: (rows, heads, keys, d), words among them.
    mask: broadcastable to (rows, heads, pixels, keys), bool or additive; None for none.
    text: where among the keys the words lie.
    size: (h, w) of the pixels.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    text: slice
    size: tuple[int, int]


Hear = Callable[[str, Heard], None]
"""Is told a layer's name and what it attends with."""


class Steer(Protocol):
    """Attention of pixels (rows, heads, pixels, d) in place of the layer's own.

    `pixels` and `text` say where among the keys these lie, None for not at all; `size` is (h, w) of the pixels.
    """

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, size: tuple[int, int],
        pixels: slice | None, text: slice | None,
    ) -> Tensor: ...  # fmt: skip


class AttentionAdapter(Protocol):
    """One network's attention layers, by the names of their processors.

    pointing: beginnings of the names of the layers whose words point best; None for all of them.
    takes_mask: whether the network is told which text positions are padding.
    """

    pointing: tuple[str, ...] | None
    takes_mask: bool

    def seeing(self) -> list[str]:
        """Layers that see text."""

    def steerable(self) -> list[str]:
        """Layers whose attention can be replaced."""

    def measured(self) -> AbstractContextManager[None]:
        """Within it, forward passes are watched for what `reader` and `steerer` need to know."""

    def reader(self, name: str, hear: Hear, listening: Callable[[], bool]) -> Any:
        """A processor that lets the layer's own attend and, while `listening`, tells `hear` what it attended with."""

    def steerer(self, name: str, steer: Steer) -> Any:
        """A processor in which `steer` attends."""


def adapter_of(model: nn.Module) -> AttentionAdapter:
    """The adapter of a `UViT2DModel`, or of a diffusers U-Net or transformer with cross-attention (`attn2`).

    Raises:
        ModelError: a network without attention to text.
    """
    if isinstance(model, UViT2DModel):
        return _JointAdapter(model)
    if any(name.endswith(_CROSS) for name in getattr(model, "attn_processors", {})):
        return _CrossAdapter(model)
    raise ModelError(f"{type(model).__name__} has no attention to text; a U-ViT or a U-Net with cross-attention has")


@contextmanager
def replaced(model: nn.Module, processors: dict[str, Any]) -> Iterator[None]:
    """Give some layers other processors for the length of the block."""
    before = dict(model.attn_processors)
    model.set_attn_processor({**before, **processors})
    try:
        yield
    finally:
        model.set_attn_processor(before)


_SELF, _CROSS = "attn1.processor", "attn2.processor"


class _JointAdapter:
    """A U-ViT's joint attention: pixels and words are keys of one softmax, so that every layer sees text.

    Words point in the middle block: image tokens have taken up the text there and are still spatial.
    """

    pointing = ("mid_block.attn.processor",)
    takes_mask = True

    def __init__(self, model: UViT2DModel) -> None:
        self.processors = dict(model.attn_processors)

    def seeing(self) -> list[str]:
        return list(self.processors)

    def steerable(self) -> list[str]:
        return list(self.processors)

    def measured(self) -> AbstractContextManager[None]:
        return nullcontext()

    def reader(self, name: str, hear: Hear, listening: Callable[[], bool]) -> JointAttnProcessor:
        inner = self.processors[name]

        def read(attn: JointAttention, states: Tensor, mask: Tensor | None, layout: TokenLayout) -> Tensor:
            if not listening():
                return inner(attn, states, mask, layout)
            with _outputs_of(attn.to_q, attn.to_k) as heard:
                attended = inner(attn, states, mask, layout)
            query, key = (attn.split(heard[m]) for m in (attn.to_q, attn.to_k))
            size = (layout.height, layout.width)
            hear(name, Heard(query[:, :, layout.image_slice], key, mask, layout.text_slice, size))
            return attended

        return read

    def steerer(self, name: str, steer: Steer) -> JointAttnProcessor:
        def steered(attn: JointAttention, states: Tensor, mask: Tensor | None, layout: TokenLayout) -> Tensor:
            q, k, v = attn.project(states)
            first = layout.image_slice.start
            words = F.scaled_dot_product_attention(q[:, :, :first], k, v, attn_mask=mask)
            pixels = steer(
                q[:, :, first:], k, v, _additive(mask, states.dtype), (layout.height, layout.width),
                layout.image_slice, layout.text_slice,
            )  # fmt: skip
            return attn.merge(torch.cat([words, pixels], dim=2))

        return steered


class _CrossAdapter:
    """A diffusers transformer, or those of a U-Net: keys are pixels in self-attention and words in cross-attention."""

    pointing = None
    takes_mask = False

    def __init__(self, model: nn.Module) -> None:
        self.model, self.processors = model, dict(model.attn_processors)
        self.sizes: dict[str, tuple[int, int]] = {}

    def seeing(self) -> list[str]:
        return [name for name in self.processors if name.endswith(_CROSS)]

    def steerable(self) -> list[str]:
        return [name for name in self.processors if name.endswith((_SELF, _CROSS))]

    @contextmanager
    def measured(self) -> Iterator[None]:
        within = {f"{n}.": m for n, m in self.model.named_modules() if isinstance(m, Transformer2DModel)}
        handles = []
        for name, module in (within or {"": self.model}).items():

            def note(module: nn.Module, inputs: tuple, kwargs: dict, name: str = name) -> None:
                states = inputs[0] if inputs else kwargs["hidden_states"]
                patch = module.config.get("patch_size") or 1
                self.sizes[name] = tuple(side // patch for side in states.shape[-2:])

            handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def reader(self, name: str, hear: Hear, listening: Callable[[], bool]) -> Any:
        inner = self.processors[name]

        def read(
            attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
            attention_mask: Tensor | None = None, *args: Any, **kwargs: Any,
        ) -> Tensor:  # fmt: skip
            if not listening():
                return inner(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
            with _outputs_of(attn.to_q, attn.to_k) as heard:
                attended = inner(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
            if len(heard) < 2:
                raise ModelError(f"{name} projects queries and keys its own way; unfuse its projections first")
            query, key = _normed_heads(attn, *(heard[m] for m in (attn.to_q, attn.to_k)))
            mask = _head_mask(attn, attention_mask, len(hidden_states), key.shape[2])
            hear(name, Heard(query, key, mask, slice(None), self._size(name)))
            return attended

        return read

    def steerer(self, name: str, steer: Steer) -> Any:
        def steered(
            attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
            attention_mask: Tensor | None = None, temb: Tensor | None = None,
        ) -> Tensor:  # fmt: skip
            everything = slice(None)
            pixels, text = (everything, None) if encoder_hidden_states is None else (None, everything)
            source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            key = attn.to_k(attn.norm_encoder_hidden_states(source) if attn.norm_cross else source)
            q, k = _normed_heads(attn, attn.to_q(hidden_states), key)
            v = _split_heads(attn, attn.to_v(source))
            mask = _head_mask(attn, attention_mask, len(source), source.shape[1])
            out = steer(q, k, v, mask, self._size(name), pixels, text)
            return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))

        return steered

    def _size(self, name: str) -> tuple[int, int]:
        return next(size for prefix, size in self.sizes.items() if name.startswith(prefix))


@contextmanager
def _outputs_of(*modules: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    """What each of the modules gives during the block."""
    heard: dict[nn.Module, Tensor] = {}
    handles = [m.register_forward_hook(lambda m, _, output: heard.__setitem__(m, output)) for m in modules]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _normed_heads(attn: Attention, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys as projected, (rows, tokens, heads * d), by head and normed as the layer does."""
    query, key = (_split_heads(attn, x) for x in (query, key))
    return (query if attn.norm_q is None else attn.norm_q(query)), (key if attn.norm_k is None else attn.norm_k(key))


def _split_heads(attn: Attention, states: Tensor) -> Tensor:
    """(rows, tokens, heads * d) as (rows, heads, tokens, d)."""
    return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def _head_mask(attn: Attention, mask: Tensor | None, rows: int, tokens: int) -> Tensor | None:
    """A U-Net's additive mask in the shape of fused attention, (rows, heads, 1, tokens)."""
    if mask is None:
        return None
    return attn.prepare_attention_mask(mask, tokens, rows).unflatten(0, (rows, attn.heads))


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None:
        return None
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, float("-inf"))
