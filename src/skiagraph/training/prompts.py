"""Captions to token ids, with the tokens of every phrase known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from skiagraph.data.captions import Phrase

NO_REGION = -1


@dataclass(frozen=True)
class PromptBatch:
    """Tokenised captions.

    ids: (batch, max_length) int64; mask: (batch, max_length) bool, True at real tokens; spans: (batch, phrases,
    max_length) float, 1 at a phrase's tokens; region: (batch, phrases) int64 index into regions, or `NO_REGION`.
    """

    ids: Tensor
    mask: Tensor
    spans: Tensor
    region: Tensor

    def to(self, device: torch.device) -> PromptBatch:
        """The same on a device."""
        return PromptBatch(*(t.to(device) for t in (self.ids, self.mask, self.spans, self.region)))

    def trimmed(self) -> PromptBatch:
        """The same with less of what is padding in every caption: it costs time and changes nothing.

        Lengths are multiples of 16, so that most batches have the shape of one before and find its memory.
        """
        used = 16 * math.ceil(int(self.mask.sum(dim=1).max()) / 16)
        return PromptBatch(self.ids[:, :used], self.mask[:, :used], self.spans[..., :used], self.region)


def tokenize_captions(
    tokenizer: PreTrainedTokenizerBase,
    captions: Sequence[Sequence[Phrase]],
    max_length: int,
    regions: Sequence[str],
) -> PromptBatch:
    """Tokenise captions phrase by phrase; their regions are among the names `regions`.

    Phrases that no longer fit are left out whole, except that the first, which may be a whole report, is cut to fit.
    """
    start, stop = _affixes(tokenizer)
    separator = _ids(tokenizer, ".")
    width = max(1, max(len(c) for c in captions))
    pad = tokenizer.pad_token_id or 0
    ids = torch.full((len(captions), max_length), pad)
    mask = torch.zeros(len(captions), max_length, dtype=torch.bool)
    spans = torch.zeros(len(captions), width, max_length)
    region = torch.full((len(captions), width), NO_REGION)
    for row, caption in enumerate(captions):
        tokens = list(start)
        for column, phrase in enumerate(caption):
            piece = (separator if len(tokens) > len(start) else ()) + _ids(tokenizer, phrase.text)
            room = max_length - len(tokens) - len(stop)
            if len(piece) > room and len(tokens) > len(start):
                continue
            piece = piece[:room]
            begin = len(tokens) + (len(separator) if len(tokens) > len(start) else 0)
            tokens += piece
            spans[row, column, begin : len(tokens)] = 1
            region[row, column] = regions.index(phrase.region) if phrase.region else NO_REGION
        tokens += stop
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = True
    return PromptBatch(ids, mask, spans, region)


@lru_cache(maxsize=65536)
def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _affixes(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Special tokens that the tokenizer puts before and after a text."""
    whole, inner = tokenizer("word")["input_ids"], list(_ids(tokenizer, "word"))
    at = next(i for i in range(len(whole)) if whole[i : i + len(inner)] == inner)
    return whole[:at], whole[at + len(inner) :]
