"""Where words look: per-word heat maps of a whole sampling run, for U-ViTs and for diffusers U-Nets alike.

Only running sums of word maps are kept, (words, h, w) per layer; no pixel-by-token matrix is stored or formed. Maps
carry gradient where it is switched on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from skiagraph.attention.adapter import Heard, adapter_of, replaced
from skiagraph.errors import ModelError
from skiagraph.models.blocked_attention import blocked_attention, trained_on_cpu
from skiagraph.models.words import token_span


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
        layers: names of attention processors to read, or their beginnings; all that see text where None. The adapter's
            `pointing` are those whose words point best.
        timesteps: read only forward passes at noise levels between these two; all where None.

    Raises:
        ModelError: a model without attention to text, unknown layers, or a batch of another size.
    """
    maps, adapter = WordMaps(spans), adapter_of(model)
    seeing = adapter.seeing()
    chosen = [n for n in seeing if layers is None or any(n.startswith(layer) for layer in layers)]
    if not chosen or (layers is not None and not all(any(n.startswith(p) for n in seeing) for p in layers)):
        raise ModelError(f"no such attention layers: {list(layers or ())}; the model has {seeing}")

    def hear(name: str, heard: Heard) -> None:
        rows = conditional_rows(len(heard.query), len(maps.spans))
        among_keys = _placed(maps.spans.to(heard.key.device), heard)
        mask = None if heard.mask is None else heard.mask[rows]
        found = word_attention(heard.query[rows], heard.key[rows], among_keys, mask)
        maps.add(name, found.unflatten(-1, heard.size))

    readers = {n: adapter.reader(n, hear, lambda: maps.listening) for n in chosen}
    with adapter.measured(), _listening(model, maps, timesteps), replaced(model, readers):
        yield maps


def _placed(spans: Tensor, heard: Heard) -> Tensor:
    """Weights of tokens (batch, words, tokens) where these lie among a layer's keys, zeros elsewhere."""
    placed = spans.new_zeros(*spans.shape[:2], heard.key.shape[2])
    text = placed[..., heard.text]
    text.copy_(spans[..., : text.shape[-1]])
    return placed


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


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size, mode="bicubic", align_corners=False).clamp_min(0)


def unit_maximum(maps: Tensor) -> Tensor:
    """Non-negative maps (..., h, w), each divided by its own maximum; zero stays zero."""
    return maps / maps.amax(dim=(-1, -2), keepdim=True).clamp_min(1e-8)
