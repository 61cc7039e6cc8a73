"""BiomedCLIP's text tower from the files it is published as, which are open_clip's and not transformers'."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerBase

from skiagraph.errors import ModelError, one_line

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TEXT_TOWER = "text.transformer."
"""Prefix of the Hugging Face text model inside open_clip's `HFTextEncoder`."""

CONSTANTS = {"embeddings.position_ids", "embeddings.token_type_ids"}
"""Buffers that older transformers releases stored among the weights."""

PUBMEDBERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
"""Sizes of BiomedCLIP's text tower (microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract)."""


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
        raise ModelError(f"{folder} has no readable tokenizer files beside the weights: {one_line(error)}") from error
    if len(tokenizer) != model.config.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the weights {model.config.vocab_size}; "
            "copy tokenizer and weights from the same release"
        )
    return model.eval(), tokenizer


def _open_clip_context(folder: Path) -> int:
    path = folder / OPEN_CLIP_CONFIG
    try:
        text = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is missing or no open_clip configuration: {one_line(error)}") from error
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
        raise ModelError(f"weight file {path} is truncated, damaged or unsafe: {one_line(error)}") from error
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
    said = "; ".join(f"{len(keys)} {kind}: {first_names(keys)}" for kind, keys in problems.items() if keys)
    if said:
        raise ModelError(f"{folder}: the weights under {TEXT_TOWER!r} are not BiomedCLIP's text tower; {said}")
    model.load_state_dict(weights, strict=False)


def first_names(names: Sequence[str], count: int = 4) -> str:
    """The first few names, for an error message."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
