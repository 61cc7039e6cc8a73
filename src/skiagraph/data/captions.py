"""Captions of any domain: facts that are true of a picture, worded, dropped and shuffled at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """Something true of a picture: a key of a domain's wordings, values for their blanks, and the region it speaks of.

    `keep` is the probability that a caption keeps it, where that is not the recipe's.
    """

    key: str
    side: str = ""
    zone: str = ""
    region: str | None = None
    keep: float | None = None


@dataclass(frozen=True)
class Phrase:
    """A piece of a caption and the region of the picture it speaks of, if any."""

    text: str
    region: str | None = None


def compose(
    facts: Sequence[Fact], rng: random.Random, dropout: float, words: Callable[[Fact], Sequence[str]]
) -> list[Phrase]:
    """A random caption: facts dropped with probability `dropout`, worded at random by `words`, in random order."""
    kept = [f for f in facts if rng.random() < (1 - dropout if f.keep is None else f.keep)]
    rng.shuffle(kept)
    return [Phrase(rng.choice(words(f)), f.region) for f in kept]


def caption_text(phrases: Sequence[Phrase]) -> str:
    """Phrases as one prompt."""
    return ". ".join(p.text for p in phrases)
