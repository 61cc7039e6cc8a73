"""Text encoders: prompts to token states, by any transformers text model, BiomedCLIP's or a small own one.

Every encoder is a plain transformers model with a transformers tokenizer, which diffusers pipelines save and
load. Token states are the last hidden states of all positions, never a pooled vector: words get attended to.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from string import ascii_lowercase, digits, punctuation
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
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

from skiagraph.errors import ModelError

PAD, UNK, CLS, SEP = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""Special tokens of `train_tokenizer`, in the order of their ids."""

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TEXT_TOWER = "text.transformer."
"""Prefix of the Hugging Face text model inside open_clip's `HFTextEncoder`."""

CONSTANTS = {"embeddings.position_ids", "embeddings.token_type_ids"}
"""Buffers that older transformers releases stored among the weights."""

UNLIMITED = 2**30
"""As `max_length`: more tokens than any text has; given explicitly, tokenizers do not warn of long texts."""

PUBMEDBERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
"""Sizes of BiomedCLIP's text tower (microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract)."""

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
    """

    states: Tensor
    mask: Tensor
    input_ids: Tensor
    truncated: tuple[bool, ...]


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
    source = str(folder) if folder.is_dir() else str(source)
    options: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
    if revision is not None:
        options["revision"] = revision
    try:
        model = load_text_model(source, **options)
        return model, AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, UnpicklingError) as error:
        where = "" if folder.is_dir() or not local_files_only else " (no such folder, nor in the local cache)"
        raise ModelError(f"text encoder {source!r} does not load{where}: {_one_line(error)}") from error


def load_text_model(source: str | Path, **options: Any) -> PreTrainedModel:
    """The model of `load_text_encoder` alone: no pooling layer, no weight made up, in evaluation mode."""
    config = AutoConfig.from_pretrained(str(source), **options)
    return _load_model(_encoder_class(config, str(source)), str(source), options).eval()


def load_biomedclip(
    folder: str | Path, *, config: BertConfig | None = None
) -> tuple[BertModel, PreTrainedTokenizerBase]:
    """BiomedCLIP's text tower (arXiv 2303.00915) from its published open_clip files, and its tokenizer.

    The folder is a copy of microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224: `open_clip_config.json`,
    `open_clip_model.safetensors` (preferred) or `open_clip_pytorch_model.bin` (read without unpickling code),
    and the tokenizer's files. The image tower, the projections and the logit scale are dropped.

    Args:
        folder: where the files are.
        config: sizes of the tower; PubMedBERT's (12 layers of 768, vocabulary 30522) by default.

    Returns:
        The BertModel without pooling layer in evaluation mode, and a tokenizer whose `model_max_length` is
        the published context of 256 tokens.

    Raises:
        ModelError: files missing or damaged, or weights whose names or shapes are not those of the tower.
    """
    folder = Path(folder).expanduser()
    context = _open_clip_context(folder)
    model = BertModel(config or BertConfig(**PUBMEDBERT), add_pooling_layer=False)
    _load_exactly(model, _text_tower(_open_clip_weights(folder)), folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), config=model.config, local_files_only=True, model_max_length=context
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} has no readable tokenizer files beside the weights: {_one_line(error)}") from error
    if len(tokenizer) != model.config.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the weights {model.config.vocab_size}; "
            "copy tokenizer and weights from the same release"
        )
    return model.eval(), tokenizer


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
    _check_request(model, tokenizer, prompts, max_length)
    prompts = list(prompts)
    cut = {"truncation": True, "max_length": max_length}
    tokens = tokenizer(prompts, padding="max_length", return_tensors="pt", **cut)
    full = tokenizer(prompts, truncation=True, max_length=UNLIMITED)["input_ids"]
    ids, mask = tokens["input_ids"].to(model.device), tokens["attention_mask"].to(model.device)
    # A tokenizer without special tokens turns "" into padding only, and attention over nothing is NaN.
    mask[:, 0] |= mask.sum(dim=1) == 0
    # CLIP is causal, so padding at the end cannot change real tokens; Stable Diffusion's own states at padded
    # positions, which its U-Net reads, come from a forward without mask.
    kwargs = {} if isinstance(model, CLIPTextModel) else {"attention_mask": mask}
    states = model(input_ids=ids, **kwargs).last_hidden_state
    device = device or model.device
    return TextStates(
        states=states.to(device=device, dtype=dtype or states.dtype),
        mask=mask.bool().to(device),
        input_ids=ids.to(device),
        truncated=tuple(len(row) > max_length for row in full),
    )


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
        raise ModelError(f"{source!r} lacks {len(missing)} weights of {cls.__name__}: {_first(missing)}")
    return model


def _open_clip_context(folder: Path) -> int:
    path = folder / OPEN_CLIP_CONFIG
    try:
        text = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is missing or no open_clip configuration: {_one_line(error)}") from error
    if "hf_model_name" not in text:
        raise ModelError(f"{path} describes a text tower of another kind; BiomedCLIP's names `hf_model_name`")
    return int(text.get("context_length", 256))


def _open_clip_weights(folder: Path) -> dict[str, Tensor]:
    path = next((folder / name for name in OPEN_CLIP_WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(f"{folder} has neither {' nor '.join(OPEN_CLIP_WEIGHTS)}")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as stream:
                return {k: stream.get_tensor(k) for k in stream.keys() if k.startswith(TEXT_TOWER)}  # noqa: SIM118
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError, UnpicklingError) as error:
        raise ModelError(f"weight file {path} is truncated, damaged or unsafe: {_one_line(error)}") from error
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else None
    if weights is None:
        raise ModelError(f"weight file {path} holds no state dict")
    return weights


def _text_tower(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    tower = {k.removeprefix(TEXT_TOWER): v for k, v in weights.items() if k.startswith(TEXT_TOWER)}
    return {k: v for k, v in tower.items() if k not in CONSTANTS}


def _load_exactly(model: BertModel, weights: dict[str, Tensor], folder: Path) -> None:
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys() - CONSTANTS)
    unexpected = sorted(weights.keys() - own.keys())
    shapes = sorted(k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape)
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    said = "; ".join(f"{len(keys)} {kind}: {_first(keys)}" for kind, keys in problems.items() if keys)
    if said:
        raise ModelError(f"{folder}: the weights under {TEXT_TOWER!r} are not BiomedCLIP's text tower; {said}")
    model.load_state_dict(weights, strict=False)


def _check_request(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_length: int
) -> None:
    if isinstance(prompts, str) or not prompts:
        raise ModelError("prompts must be a sequence of at least one string")
    _require_padding(tokenizer)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ModelError(f"max_length {max_length} exceeds the text encoder's {positions} positions")


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


def _first(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
