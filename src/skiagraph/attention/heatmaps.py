"""Where words look: per-word heat maps of a whole sampling run, for U-ViTs and for diffusers U-Nets alike.

Only running sums of word maps are kept, (words, h, w) per layer; no pixel-by-token matrix is stored or formed. Maps
carry gradient where it is switched on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from skiagraph.errors import ModelError
from skiagraph.models.blocked_attention import blocked_attention, trained_on_cpu
from skiagraph.models.uvit import JointAttention, JointAttnProcessor, TokenLayout, UViT2DModel
from skiagraph.models.words import token_span

MIDDLE_LAYERS = ("mid_block.attn.processor",)
"""A U-ViT's middle block, where words point: image tokens have taken up the text there and are still spatial."""


def word_spans(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], words: Sequence[Sequence[str]], length: int
) -> Tensor:
    """Weights of tokens in words: float (batch, words, length); rows sum to 1, or to 0 where a prompt has fewer words.

    Sub-tokens of a word, and its occurrences, are averaged, as in DiffuMask (arXiv 2303.11681).

    Args:
        tokenizer: of the prompts.
        prompts: one per image.
        words: the words or phrases to map, per prompt.
        length: tokens the denoiser gets.

    Raises:
        ModelError: a word that is not in its prompt, or cut off.
    """
    spans = torch.zeros(len(prompts), max(len(w) for w in words), length)
    for row, (prompt, wanted) in enumerate(zip(prompts, words, strict=True)):
        for column, word in enumerate(wanted):
            positions = [p for span in token_span(tokenizer, prompt, word, max_length=length) for p in span]
            spans[row, column, positions] = 1 / len(positions)
    return spans


def word_attention(query: Tensor, key: Tensor, spans: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d)) summed over the tokens of each word and averaged over heads.

    The word weights take the place of the values in one fused attention, so no pixel-by-token matrix is formed.

    Args:
        query: (batch, heads, pixels, d).
        key: (batch, heads, tokens, d).
        spans: (batch, words, tokens), weights of tokens in words.
        attention_mask: broadcastable to (batch, heads, pixels, tokens), bool (True where to look) or additive.

    Returns:
        float32 (batch, words, pixels); computed in the inputs' precision where a CPU trains.
    """
    heads, width, words = key.shape[1], key.shape[-1], spans.shape[1]
    values = spans.transpose(1, 2)[:, None].expand(-1, heads, -1, -1)
    if trained_on_cpu(query) and (attention_mask is None or attention_mask.dtype == torch.bool):
        return blocked_attention(query, key, values.to(query.dtype), attention_mask).float().mean(dim=1).transpose(1, 2)
    padded = max(width, words)  # the fused kernels ask for values as wide as queries
    values = F.pad(values.float(), (0, padded - words))
    query, key = (F.pad(x.float(), (0, padded - width)) for x in (query, key))
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):
        found = F.scaled_dot_product_attention(query, key, values, attn_mask=attention_mask, scale=width**-0.5)
    return found[..., :words].mean(dim=1).transpose(1, 2)


@dataclass
class WordMaps:
    """Running sums of word maps by layer: (batch, words, h, w) float32, and how many forward passes they are of.

    `listening` is False during passes that are left out.
    """

    spans: Tensor
    listening: bool = True
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, layer: str, maps: Tensor) -> None:
        """Add one forward pass's maps (batch, words, h, w)."""
        self.sums[layer] = self.sums[layer] + maps if layer in self.sums else maps
        self.counts[layer] = self.counts.get(layer, 0) + 1

    def mean(self) -> dict[str, Tensor]:
        """Mean over forward passes by layer, (batch, words, h, w), non-negative."""
        return {layer: total / self.counts[layer] for layer, total in self.sums.items()}

    def clear(self) -> None:
        """Forget what was added, as between parts of a sampling run."""
        self.sums.clear()
        self.counts.clear()

    def combined(self, size: tuple[int, int]) -> Tensor:
        """One map per word: the mean over layers at each resolution, resized, divided by its maximum, then averaged.

        As in DiffuMask (arXiv 2303.11681), with bicubic resizing.

        Returns:
            (batch, words, *size) in [0, 1], each map's maximum 1; zero for a word without tokens.

        Raises:
            ModelError: nothing was captured.
        """
        by_resolution: dict[tuple[int, int], list[Tensor]] = {}
        for maps in self.mean().values():
            by_resolution.setdefault(tuple(maps.shape[-2:]), []).append(maps)
        if not by_resolution:
            raise ModelError(
                "no attention was captured; sample inside the `with` block, with a step at the chosen noise levels"
            )
        parts = [unit_maximum(_resized(torch.stack(maps).mean(dim=0), size)) for maps in by_resolution.values()]
        return unit_maximum(torch.stack(parts).mean(dim=0))


@contextmanager
def capture_words(
    model: nn.Module,
    spans: Tensor,
    layers: Sequence[str] | None = None,
    *,
    timesteps: tuple[float, float] | None = None,
) -> Iterator[WordMaps]:
    """Record the heat maps of words in every forward pass of a denoiser for the length of the block.

    Batches of as many rows as `spans` has are taken as conditional; of batches twice as large, as classifier-free
    guidance makes them, the second half is.

    Args:
        model: a `UViT2DModel`, or a diffusers U-Net with cross-attention (`attn2`).
        spans: from `word_spans`, (batch, words, tokens).
        layers: names of attention processors to read, or their beginnings; all that see text where None.
        timesteps: read only forward passes at noise levels between these two; all where None.

    Raises:
        ModelError: a model without attention to text, unknown layers, or a batch of another size.
    """
    maps = WordMaps(spans)
    before = dict(model.attn_processors) if hasattr(model, "attn_processors") else {}
    seeing = [n for n in before if isinstance(model, UViT2DModel) or n.endswith("attn2.processor")]
    if not seeing:
        raise ModelError(
            f"{type(model).__name__} has no attention to text; a U-ViT or a U-Net with cross-attention has"
        )
    chosen = [n for n in seeing if layers is None or any(n.startswith(layer) for layer in layers)]
    if not chosen or (layers is not None and not all(any(n.startswith(p) for n in seeing) for p in layers)):
        raise ModelError(f"no such attention layers: {list(layers or ())}; the model has {seeing}")
    sizes = nullcontext({}) if isinstance(model, UViT2DModel) else feature_sizes(model)
    reader = _JointReader if isinstance(model, UViT2DModel) else _CrossReader
    with sizes as known, _listening(model, maps, timesteps):
        readers = {n: reader(before[n], n, maps, known) for n in chosen}
        model.set_attn_processor({**before, **readers})
        try:
            yield maps
        finally:
            model.set_attn_processor(before)


@contextmanager
def _listening(model: nn.Module, maps: WordMaps, timesteps: tuple[float, float] | None) -> Iterator[None]:
    """Switch `maps.listening` before each forward pass by its timestep, the second argument of diffusers' denoisers."""

    def switch(_: nn.Module, inputs: tuple, kwargs: dict) -> None:
        now = torch.as_tensor(inputs[1] if len(inputs) > 1 else kwargs["timestep"]).flatten()[0]
        maps.listening = timesteps is None or timesteps[0] <= float(now) <= timesteps[1]

    handle = model.register_forward_pre_hook(switch, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def conditional_rows(rows: int, prompts: int) -> slice:
    """Rows of a batch that see the prompts: all, or the second half where classifier-free guidance doubled them.

    Raises:
        ModelError: a batch of another size.
    """
    if rows not in (prompts, 2 * prompts):
        raise ModelError(f"a batch of {rows} images for the words of {prompts} prompts; give words for every prompt")
    return slice(rows - prompts, rows)


def project_cross(attn: Attention, hidden_states: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys (batch, heads, tokens, d) of a diffusers attention layer, `source` (batch, tokens, dim)."""
    key = attn.to_k(attn.norm_encoder_hidden_states(source) if attn.norm_cross else source)
    return normed_heads(attn, attn.to_q(hidden_states), key)


def normed_heads(attn: Attention, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys as projected, (batch, tokens, heads * d), by head and normed as the layer does."""
    query, key = (split_heads(attn, x) for x in (query, key))
    return (query if attn.norm_q is None else attn.norm_q(query)), (key if attn.norm_k is None else attn.norm_k(key))


def split_heads(attn: Attention, states: Tensor) -> Tensor:
    """(batch, tokens, heads * d) as (batch, heads, tokens, d)."""
    return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def head_mask(attn: Attention, mask: Tensor | None, rows: int, tokens: int) -> Tensor | None:
    """A U-Net's additive mask in the shape of fused attention, (rows, heads, 1, tokens)."""
    if mask is None:
        return None
    return attn.prepare_attention_mask(mask, tokens, rows).unflatten(0, (rows, attn.heads))


def size_of_layer(known: dict[str, tuple[int, int]], name: str) -> tuple[int, int]:
    """(h, w) that the attention layer `name` works at, from `feature_sizes`."""
    return next(size for prefix, size in known.items() if name.startswith(prefix))


class _JointReader:
    """Lets a U-ViT layer's own processor attend, and reads the image-to-text block off the queries and keys it used."""

    def __init__(self, inner: JointAttnProcessor, name: str, maps: WordMaps, known: dict) -> None:
        self.inner, self.name, self.maps = inner, name, maps

    def __call__(self, attn: JointAttention, states: Tensor, mask: Tensor | None, layout: TokenLayout) -> Tensor:
        if not self.maps.listening:
            return self.inner(attn, states, mask, layout)
        rows = conditional_rows(len(states), len(self.maps.spans))
        with _outputs_of(attn.to_q, attn.to_k) as heard:
            attended = self.inner(attn, states, mask, layout)
        query, key = (attn.split(heard[m][rows]) for m in (attn.to_q, attn.to_k))
        spans = self.maps.spans.to(states.device)
        everywhere = spans.new_zeros(*spans.shape[:2], key.shape[2])
        everywhere[..., layout.text_slice] = spans[..., : layout.text]
        found = word_attention(query[:, :, layout.image_slice], key, everywhere, None if mask is None else mask[rows])
        self.maps.add(self.name, found.unflatten(-1, (layout.height, layout.width)))
        return attended


class _CrossReader:
    """Lets a U-Net layer's own processor attend, and reads its cross-attention off the queries and keys it used."""

    def __init__(self, inner: Any, name: str, maps: WordMaps, known: dict[str, tuple[int, int]]) -> None:
        self.inner, self.name, self.maps, self.known = inner, name, maps, known

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, *args: Any, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        if not self.maps.listening:
            return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        rows = conditional_rows(len(hidden_states), len(self.maps.spans))
        with _outputs_of(attn.to_q, attn.to_k) as heard:
            attended = self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        if len(heard) < 2:
            raise ModelError(f"{self.name} projects queries and keys its own way; unfuse its projections first")
        query, key = normed_heads(attn, *(heard[m][rows] for m in (attn.to_q, attn.to_k)))
        mask = head_mask(attn, attention_mask, len(hidden_states), key.shape[2])
        found = word_attention(query, key, self.maps.spans.to(query.device), None if mask is None else mask[rows])
        self.maps.add(self.name, found.unflatten(-1, size_of_layer(self.known, self.name)))
        return attended


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


@contextmanager
def feature_sizes(model: nn.Module) -> Iterator[dict[str, tuple[int, int]]]:
    """(h, w) of what each spatial transformer of a U-Net is working on, by the name of its layers."""
    sizes: dict[str, tuple[int, int]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Transformer2DModel):

            def note(_: nn.Module, inputs: tuple, kwargs: dict, name: str = f"{name}.") -> None:
                states = inputs[0] if inputs else kwargs["hidden_states"]
                sizes[name] = tuple(states.shape[-2:])

            handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size, mode="bicubic", align_corners=False).clamp_min(0)


def unit_maximum(maps: Tensor) -> Tensor:
    """Non-negative maps (..., h, w), each divided by its own maximum; zero stays zero."""
    return maps / maps.amax(dim=(-1, -2), keepdim=True).clamp_min(1e-8)
