"""Positions of words in a prompt's token sequence, for reading and steering the attention they get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from skiagraph.errors import ModelError

UNLIMITED = 2**30
"""As `max_length`: more tokens than any text has; given explicitly, tokenizers do not warn of long texts."""


def own_length(tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens to which a tokenizer cuts its texts.

    Raises:
        ModelError: a tokenizer that names no length, for which transformers has an enormous number.
    """
    if tokenizer.model_max_length > UNLIMITED:
        raise ModelError(
            "the tokenizer has no length; set model_max_length in its tokenizer_config.json to the positions of the "
            "text encoder, such as 77 for CLIP"
        )
    return tokenizer.model_max_length


def token_span(
    tokenizer: PreTrainedTokenizerBase, prompt: str, word: str, *, max_length: int | None = None
) -> list[list[int]]:
    """Positions of every occurrence of a word or phrase in a prompt's token sequence, special tokens counted.

    Occurrences are matched by token ids, so a word of several tokens, as "cardiomegaly" may be, gives several
    positions. With fast tokenizers a match inside a longer word does not count.

    Args:
        tokenizer: the one the prompt is encoded with.
        prompt: the whole prompt.
        word: one or more consecutive words of it, in the tokenizer's sense of equal (case, accents).
        max_length: where the prompt is truncated; the tokenizer's `model_max_length` by default.

    Returns:
        One list of consecutive positions per occurrence, in order; those beyond the truncation are left out.

    Raises:
        ModelError: the word is empty, is not in the prompt, or only in the part that truncation cuts off.
    """
    wanted = _spellings(tokenizer, word)
    if not wanted:
        raise ModelError(f"{word!r} has no tokens in the vocabulary; name a word of the prompt")
    limit = min(max_length or tokenizer.model_max_length, UNLIMITED)
    found = _occurrences(tokenizer, prompt, wanted, limit)
    if found:
        return found
    if _occurrences(tokenizer, prompt, wanted, UNLIMITED):
        raise ModelError(
            f"{word!r} is in the prompt but cut off: only the first {limit} tokens are used; "
            f"move it forward or shorten {prompt[:80]!r}"
        )
    raise ModelError(f"{word!r} is not in the prompt {prompt[:80]!r}")


def _spellings(tokenizer: PreTrainedTokenizerBase, word: str) -> list[list[int]]:
    """Token ids of the word at a text's start and after a space: byte-level vocabularies tell these apart."""
    spellings: list[list[int]] = []
    for text in (word.strip(), f" {word.strip()}"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        known = bool(word.strip() and ids) and tokenizer.unk_token_id not in ids
        if known and ids not in spellings:
            spellings.append(ids)
    return spellings


def _occurrences(
    tokenizer: PreTrainedTokenizerBase, prompt: str, wanted: list[list[int]], limit: int
) -> list[list[int]]:
    tokens = tokenizer(prompt, return_offsets_mapping=tokenizer.is_fast, truncation=True, max_length=limit)
    ids, offsets = tokens["input_ids"], tokens.get("offset_mapping")
    spans = (s for spelling in wanted for s in _subsequences(ids, spelling))
    return sorted(s for s in spans if offsets is None or _whole_words(prompt, offsets[s[0]][0], offsets[s[-1]][1]))


def _subsequences(ids: Sequence[int], wanted: Sequence[int]) -> Iterator[list[int]]:
    for start in range(len(ids) - len(wanted) + 1):
        if list(ids[start : start + len(wanted)]) == list(wanted):
            yield list(range(start, start + len(wanted)))


def _whole_words(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] neither begins nor ends inside a word."""
    inside_left = 0 < start < end and text[start - 1].isalnum() and text[start].isalnum()
    inside_right = 0 < end < len(text) and text[end - 1].isalnum() and text[end].isalnum()
    return not (inside_left or inside_right)
