"""Text encoders: prompts to token states, by any transformers text model, BiomedCLIP's or a small own one.

Every encoder is a plain transformers model with a transformers tokenizer, which diffusers pipelines save and
load. Token states are the last hidden states of all positions, never a pooled vector: words get attended to.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from string import ascii_lowercase, digits, punctuation
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from torch import Tensor
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPTextModel,
    MT5EncoderModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5EncoderModel,
    UMT5EncoderModel,
)

from skiagraph.errors import ModelError, one_line
from skiagraph.models.biomedclip import OPEN_CLIP_CONFIG, first_names, load_biomedclip
from skiagraph.models.words import UNLIMITED

PAD, UNK, CLS, SEP = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""Special tokens of `train_tokenizer`, in the order of their ids."""

ENCODER_CLASSES: dict[str, type[PreTrainedModel]] = {
    "clip": CLIPTextModel,
    "clip_text_model": CLIPTextModel,
    "t5": T5EncoderModel,
    "mt5": MT5EncoderModel,
    "umt5": UMT5EncoderModel,
}
"""By `model_type`: models whose automatic class would add a vision tower or a decoder."""


@dataclass(frozen=True)
class TextStates:
    """What a denoiser is conditioned on.

    Attributes:
        states: last hidden states, (batch, max_length, dim).
        mask: (batch, max_length) bool, True at real tokens, False at padding.
        input_ids: (batch, max_length) int64.
        truncated: per prompt, whether it was longer than `max_length` and lost its end.
        pooled: (batch, pooled dim), one vector for each prompt, where the denoiser wants one besides.
    """

    states: Tensor
    mask: Tensor
    input_ids: Tensor
    truncated: tuple[bool, ...]
    pooled: Tensor | None = None


def small_text_encoder(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int = 256,
    layers: int = 3,
    heads: int = 4,
    max_length: int = 40,
) -> BertModel:
    """A randomly initialised BERT without pooling layer and dropout, to be trained jointly with the denoiser.

    Args:
        tokenizer: its length is the vocabulary; its padding token gets no embedding.
        hidden_size: width of the token states.
        layers: transformer layers.
        heads: attention heads; must divide `hidden_size`.
        max_length: positions, special tokens included.

    Raises:
        ModelError: `heads` does not divide `hidden_size`, or a tokenizer without padding token.
    """
    if hidden_size % heads:
        raise ModelError(f"text encoder: hidden_size {hidden_size} must divide by heads {heads}")
    _require_padding(tokenizer)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=max_length,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    return BertModel(config, add_pooling_layer=False)


def train_tokenizer(corpus: Iterable[str], *, vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Learn a WordPiece vocabulary (lower case, no accents) from texts; equal texts give equal vocabularies.

    The letters, digits and punctuation of ASCII are always in it, at the start of a word and inside one, so
    that no ASCII text gives [UNK]. A text becomes `[CLS] text [SEP]`.

    Args:
        corpus: texts; read once.
        vocab_size: upper bound of the vocabulary; a small corpus gives fewer.
        max_length: where prompts are truncated by default, special tokens included.

    Raises:
        ModelError: a `vocab_size` that does not hold the special tokens and the corpus's characters.
    """
    texts = list(corpus)
    base = [*SPECIAL_TOKENS, *_characters(texts)]
    if vocab_size < len(base):
        raise ModelError(f"vocab_size {vocab_size} is too small: special tokens and characters alone are {len(base)}")
    tokenizer = _wordpiece({token: i for i, token in enumerate(base)})
    # Given as "special" the characters get fixed ids, which makes ties between merges reproducible.
    trainer = WordPieceTrainer(vocab_size=vocab_size, special_tokens=base, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return _fast_tokenizer(_wordpiece(tokenizer.get_vocab(with_added_tokens=False)), max_length)


def load_text_encoder(
    source: str | Path, *, revision: str | None = None, local_files_only: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A text model in evaluation mode, and its tokenizer.

    CLIP gives its text tower only, T5 its encoder only, BERT-like models no pooling layer. A folder with
    `open_clip_config.json` and no `config.json` is read as BiomedCLIP (`load_biomedclip`).

    Args:
        source: folder, or Hub id of a transformers text model.
        revision: branch, tag or commit of a Hub id.
        local_files_only: never ask the network; a Hub id must then be in the local cache.

    Raises:
        ModelError: nothing there, files missing or damaged, or a model that is no text encoder.
    """
    folder = Path(source).expanduser()
    if (folder / OPEN_CLIP_CONFIG).is_file() and not (folder / "config.json").is_file():
        return load_biomedclip(folder)
    model = load_text_model(source, revision=revision, local_files_only=local_files_only)
    with _named_errors(source, local_files_only):
        return model, AutoTokenizer.from_pretrained(_place(source), **_options(revision, local_files_only))


def load_text_model(
    source: str | Path, *, revision: str | None = None, local_files_only: bool = True
) -> PreTrainedModel:
    """The model of `load_text_encoder` without its tokenizer: no pooling layer, no weight made up.

    Args:
        source: folder, or Hub id of a transformers text model.
        revision: branch, tag or commit of a Hub id.
        local_files_only: never ask the network; a Hub id must then be in the local cache.

    Raises:
        ModelError: nothing there, files missing or damaged, weights missing, or a model that is no text encoder.
    """
    place, options = _place(source), _options(revision, local_files_only)
    with _named_errors(source, local_files_only):
        config = AutoConfig.from_pretrained(place, **options)
        return _load_model(_encoder_class(config, place), place, options).eval()


def encode_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_length: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TextStates:
    """Token states of prompts, padded to `max_length`. Gradients flow unless the caller switches them off.

    Args:
        model: a text model from this module.
        tokenizer: the model's.
        prompts: at least one; an empty string is the unconditional prompt and has its special tokens only.
        max_length: tokens per prompt, special ones included; longer prompts lose their end.
        device: where the result goes; the model's by default. The model itself is not moved.
        dtype: of the states; the model's by default.

    Returns:
        `TextStates`: states (batch, max_length, dim), mask and ids (batch, max_length).

    Raises:
        ModelError: no prompts, a single string, more positions than the model has, or no padding token.
    """
    ids, mask, truncated = tokenised(model, tokenizer, prompts, max_length)
    # CLIP is causal, so padding at the end cannot change real tokens; Stable Diffusion's own states at padded
    # positions, which its U-Net reads, come from a forward without mask.
    kwargs = {} if isinstance(model, CLIPTextModel) else {"attention_mask": mask}
    states = model(input_ids=ids, **kwargs).last_hidden_state
    device = device or model.device
    return TextStates(
        states=states.to(device=device, dtype=dtype or states.dtype), mask=mask.bool().to(device),
        input_ids=ids.to(device), truncated=truncated,
    )  # fmt: skip


def tokenised(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_length: int
) -> tuple[Tensor, Tensor, tuple[bool, ...]]:
    """Ids and mask int64 (batch, max_length) of prompts, on the model's device, and which were cut, as `encode_text`.

    Raises:
        ModelError: as `encode_text`.
    """
    _check_request(model, tokenizer, prompts, max_length)
    prompts = list(prompts)
    cut = {"truncation": True, "max_length": max_length}
    tokens = tokenizer(prompts, padding="max_length", return_tensors="pt", **cut)
    full = tokenizer(prompts, truncation=True, max_length=UNLIMITED)["input_ids"]
    ids, mask = tokens["input_ids"].to(model.device), tokens["attention_mask"].to(model.device)
    # A tokenizer without special tokens turns "" into padding only, and attention over nothing is NaN.
    mask[:, 0] |= mask.sum(dim=1) == 0
    return ids, mask, tuple(len(row) > max_length for row in full)


def _characters(texts: Iterable[str]) -> list[str]:
    """Characters a vocabulary must hold: ASCII's and the corpus's, as word starts and as continuations."""
    normalise = BertNormalizer().normalize_str
    seen = {c for text in texts for c in normalise(text) if not c.isspace()}
    letters = [*ascii_lowercase, *digits]
    others = sorted(seen - {*letters, *punctuation})
    # Punctuation is always a word of its own, so it needs no continuation form.
    inside = [c for c in (*letters, *others) if c.isalnum()]
    return [*letters, *punctuation, *others, *(f"##{c}" for c in inside)]


def _wordpiece(vocabulary: dict[str, int]) -> Tokenizer:
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    # The library's default gives up on words longer than 100 characters, such as a row of letters.
    model = WordPiece({t: i for i, t in enumerate(ordered)}, unk_token=UNK, max_input_chars_per_word=10_000)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    ids = [(t, tokenizer.token_to_id(t)) for t in (CLS, SEP)]
    tokenizer.post_processor = TemplateProcessing(single=f"{CLS} $A {SEP}", special_tokens=ids)
    return tokenizer


def _fast_tokenizer(tokenizer: Tokenizer, max_length: int) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        pad_token=PAD,
        unk_token=UNK,
        cls_token=CLS,
        sep_token=SEP,
    )


def _require_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    if tokenizer.pad_token_id is None:
        raise ModelError("the tokenizer has no padding token; set tokenizer.pad_token, for example to its end token")


def _place(source: str | Path) -> str:
    """A folder's path, else the Hub id as it was given."""
    folder = Path(source).expanduser()
    return str(folder) if folder.is_dir() else str(source)


def _options(revision: str | None, local_files_only: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
    return options if revision is None else {**options, "revision": revision}


@contextmanager
def _named_errors(source: str | Path, local_files_only: bool) -> Iterator[None]:
    """What transformers raises on missing and damaged files, as ModelError that names the source."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, UnpicklingError) as error:
        place = _place(source)
        absent = local_files_only and not Path(place).is_dir()
        where = " (no such folder, nor in the local cache)" if absent else ""
        raise ModelError(f"text encoder {place!r} does not load{where}: {one_line(error)}") from error


def _encoder_class(config: Any, source: str) -> type[PreTrainedModel]:
    if config.model_type in ENCODER_CLASSES:
        return ENCODER_CLASSES[config.model_type]
    found = MODEL_MAPPING.get(type(config), None)
    if found is None or isinstance(found, tuple) or getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{source!r} is of type {config.model_type!r}, no text encoder; use a BERT-like, CLIP or T5 model"
        )
    return found


def _load_model(cls: type[PreTrainedModel], source: str, options: dict[str, Any]) -> PreTrainedModel:
    options = {k: v for k, v in options.items() if k != "trust_remote_code"}
    if "add_pooling_layer" in inspect.signature(cls.__init__).parameters:
        options["add_pooling_layer"] = False
    model, info = cls.from_pretrained(source, output_loading_info=True, **options)
    # Loading otherwise fills what is missing with random numbers and goes on.
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(f"{source!r} lacks {len(missing)} weights of {cls.__name__}: {first_names(missing)}")
    return model


def _check_request(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_length: int
) -> None:
    if isinstance(prompts, str) or not prompts:
        raise ModelError("prompts must be a sequence of at least one string")
    _require_padding(tokenizer)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ModelError(f"max_length {max_length} exceeds the text encoder's {positions} positions")
