"""Text encoders: own, Hugging Face and open_clip layouts; token states; positions of words."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from skiagraph.errors import ModelError
from skiagraph.models import text as text_module
from skiagraph.models.text import (
    encode_text,
    load_biomedclip,
    load_text_encoder,
    small_text_encoder,
    token_span,
    train_tokenizer,
)

CORPUS = [
    "Small left pleural effusion. No pneumothorax.",
    "Large right pleural effusion and consolidation.",
    "The heart is enlarged: cardiomegaly, 2.5 cm.",
    "PA view of a 54-year-old man; café, µm.",
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS * 3, vocab_size=160, max_length=24)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    return small_text_encoder(tokenizer, hidden_size=16, layers=2, heads=2, max_length=24).eval()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a network connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)


# Tokenizer


def test_no_ascii_text_is_unknown(tokenizer):
    ids = tokenizer(f"{string.printable} x{string.printable[:62]}x {'z' * 300}")["input_ids"]
    assert tokenizer.unk_token_id not in ids


def test_template_and_normalisation(tokenizer):
    ids = tokenizer("Café")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert ids == tokenizer("CAFE")["input_ids"]
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]) == [0, 1, 2, 3]


def test_tokenizer_round_trip(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    sentence = "Small LEFT pleural effusion, zyx 39!"
    for cls in (PreTrainedTokenizerFast, AutoTokenizer):
        loaded = cls.from_pretrained(tmp_path)
        assert loaded(sentence)["input_ids"] == tokenizer(sentence)["input_ids"]
        assert loaded.model_max_length == 24
        assert loaded.pad_token_id == 0


def test_training_a_tokenizer_is_reproducible(tokenizer):
    again = train_tokenizer(iter(CORPUS * 3), vocab_size=160, max_length=24)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert len(again) <= 160


def test_vocabulary_too_small():
    with pytest.raises(ModelError, match="vocab_size 50 is too small"):
        train_tokenizer(CORPUS, vocab_size=50, max_length=24)


# States


def test_states_mask_and_truncation(encoder, tokenizer):
    out = encode_text(encoder, tokenizer, ["", "pleural effusion", "cardiomegaly " * 40], max_length=24)
    assert out.states.shape == (3, 24, 16)
    assert out.mask.dtype == torch.bool
    assert out.mask[0].sum() == 2
    assert out.mask[2].all()
    assert out.truncated == (False, False, True)
    assert out.input_ids[2, -1] == tokenizer.sep_token_id
    assert out.states.requires_grad


def test_a_prompt_of_exactly_the_length_is_not_truncated(encoder, tokenizer):
    length = len(tokenizer("pleural effusion")["input_ids"])
    out = encode_text(encoder, tokenizer, ["pleural effusion"], max_length=length)
    assert out.truncated == (False,)
    assert out.mask.all()


@torch.no_grad()
def test_states_do_not_depend_on_padding(encoder, tokenizer):
    short = encode_text(encoder, tokenizer, ["left effusion"], max_length=12)
    long = encode_text(encoder, tokenizer, ["left effusion"], max_length=24, dtype=torch.float64)
    assert long.states.dtype == torch.float64
    torch.testing.assert_close(short.states[short.mask], long.states[long.mask].float())


def test_requests_that_cannot_be_met(encoder, tokenizer):
    for prompts in ("one string", []):
        with pytest.raises(ModelError, match="sequence"):
            encode_text(encoder, tokenizer, prompts, max_length=8)
    with pytest.raises(ModelError, match="24 positions"):
        encode_text(encoder, tokenizer, ["a"], max_length=25)
    with pytest.raises(ModelError, match="divide"):
        small_text_encoder(tokenizer, hidden_size=10, heads=4)


# Loading


def test_own_encoder_round_trip(encoder, tokenizer, tmp_path):
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, its_tokenizer = load_text_encoder(tmp_path)
    assert isinstance(loaded, BertModel)
    assert loaded.pooler is None
    assert not loaded.training
    before = encode_text(encoder, tokenizer, CORPUS, max_length=24).states
    torch.testing.assert_close(encode_text(loaded, its_tokenizer, CORPUS, max_length=24).states, before)


def test_clip_loads_its_text_tower_only(tokenizer, tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": 3}
    vision = {**sizes, "image_size": 8, "patch_size": 4}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, its_tokenizer = load_text_encoder(tmp_path)
    assert isinstance(loaded, CLIPTextModel)
    assert loaded.config.hidden_size == 16
    out = encode_text(loaded, its_tokenizer, ["left effusion"], max_length=12)
    expected = model.text_model(input_ids=out.input_ids).last_hidden_state
    torch.testing.assert_close(out.states, expected)


def test_t5_loads_its_encoder_only(tokenizer, tmp_path):
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, its_tokenizer = load_text_encoder(tmp_path)
    assert isinstance(loaded, T5EncoderModel)
    assert loaded.config.hidden_size == 16
    assert encode_text(loaded, its_tokenizer, ["", "effusion"], max_length=30).states.shape == (2, 30, 16)


def test_missing_weights_are_not_made_up(encoder, tokenizer, tmp_path):
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = {k: v.contiguous() for k, v in encoder.state_dict().items() if "layer.1" not in k}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 16 weights of BertModel: encoder\.layer\.1"):
        load_text_encoder(tmp_path)


def test_damaged_weights(encoder, tokenizer, tmp_path):
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10" * 40)
    with pytest.raises(ModelError, match="does not load"):
        load_text_encoder(tmp_path)


def test_a_hub_id_is_not_downloaded(tmp_path):
    with pytest.raises(ModelError, match="nor in the local cache"):
        load_text_encoder("nobody/no-such-text-encoder")
    with pytest.raises(ModelError, match="does not load"):
        load_text_encoder(tmp_path)


# BiomedCLIP


@pytest.fixture
def tiny(tokenizer) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip


@pytest.fixture
def published(tiny) -> dict[str, torch.Tensor]:
    """A state dict with the names open_clip gives BiomedCLIP's parts."""
    tower = BertModel(tiny, add_pooling_layer=False).state_dict()
    return {
        **{f"text.transformer.{k}": v.clone() for k, v in tower.items()},
        "text.transformer.embeddings.position_ids": torch.arange(32)[None],
        "text.proj.0.weight": torch.zeros(12, 16),
        "text.proj.2.weight": torch.zeros(8, 12),
        "visual.trunk.cls_token": torch.zeros(1, 1, 16),
        "visual.head.proj.weight": torch.zeros(8, 16),
        "logit_scale": torch.tensor(4.0),
    }


def _open_clip_folder(folder: Path, weights: dict, tokenizer, suffix: str) -> Path:
    text = {
        "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 20,
    }
    config = {"model_cfg": {"embed_dim": 8, "text_cfg": text}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    if suffix == "bin":
        torch.save(weights, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_biomedclip_text_tower(tmp_path, tiny, published, tokenizer, suffix):
    folder = _open_clip_folder(tmp_path, published, tokenizer, suffix)
    model, its_tokenizer = load_biomedclip(folder, config=tiny)
    assert model.pooler is None
    assert its_tokenizer.model_max_length == 20
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, published[f"text.transformer.{name}"])
    assert encode_text(model, its_tokenizer, ["effusion"], max_length=20).states.shape == (1, 20, 16)


def test_open_clip_folder_is_recognised(tmp_path, tiny, published, tokenizer, monkeypatch):
    sizes = {k: getattr(tiny, k) for k in text_module.PUBMEDBERT}
    monkeypatch.setattr(text_module, "PUBMEDBERT", sizes)
    folder = _open_clip_folder(tmp_path, published, tokenizer, "safetensors")
    model, _ = load_text_encoder(folder)
    assert isinstance(model, BertModel)


def test_safetensors_are_preferred(tmp_path, tiny, published, tokenizer):
    folder = _open_clip_folder(tmp_path, published, tokenizer, "safetensors")
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"not read")
    load_biomedclip(folder, config=tiny)


def test_biomedclip_of_another_layout(tmp_path, tiny, published, tokenizer):
    lost = "text.transformer.encoder.layer.1.output.dense.bias"
    wrong = {k: v for k, v in published.items() if k != lost} | {"text.transformer.pooler.dense.bias": torch.zeros(16)}
    folder = _open_clip_folder(tmp_path, wrong, tokenizer, "safetensors")
    with pytest.raises(ModelError, match=r"1 missing: encoder\.layer\.1.*1 unexpected: pooler\.dense\.bias"):
        load_biomedclip(folder, config=tiny)


def test_biomedclip_of_other_sizes(tmp_path, tiny, published, tokenizer):
    folder = _open_clip_folder(tmp_path, published, tokenizer, "safetensors")
    tiny.vocab_size += 1
    with pytest.raises(ModelError, match=r"1 of another shape: embeddings\.word_embeddings"):
        load_biomedclip(folder, config=tiny)


class _RunsCode:
    def __reduce__(self):
        return print, ("code ran",)


def test_biomedclip_bin_does_not_run_code(tmp_path, tiny, tokenizer, capsys):
    folder = _open_clip_folder(tmp_path, {"logit_scale": _RunsCode()}, tokenizer, "bin")
    with pytest.raises(ModelError, match="damaged or unsafe"):
        load_biomedclip(folder, config=tiny)
    assert "code ran" not in capsys.readouterr().out


def test_biomedclip_files_missing(tmp_path, tiny, published, tokenizer):
    with pytest.raises(ModelError, match=r"open_clip_config\.json is missing"):
        load_biomedclip(tmp_path)
    folder = _open_clip_folder(tmp_path, published, tokenizer, "bin")
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="has neither"):
        load_biomedclip(folder, config=tiny)


# Positions of words


def test_span_of_every_occurrence(tokenizer):
    prompt = "Left pleural effusion, and right Pleural Effusion."
    spans = token_span(tokenizer, prompt, "pleural effusion")
    ids = tokenizer(prompt)["input_ids"]
    assert len(spans) == 2
    for span in spans:
        assert span == list(range(span[0], span[-1] + 1))
        assert tokenizer.decode([ids[i] for i in span]) == "pleural effusion"


def test_span_of_a_word_of_several_tokens(tokenizer):
    (span,) = token_span(tokenizer, "mild hyperinflation seen", "hyperinflation")
    assert len(span) > 1


def test_part_of_a_word_is_not_a_match(tokenizer):
    with pytest.raises(ModelError, match="is not in the prompt"):
        token_span(tokenizer, "hyperinflation", "hyper")


def test_span_beyond_the_truncation(tokenizer):
    prompt = "x " * 30 + "cardiomegaly"
    with pytest.raises(ModelError, match="cut off: only the first 24 tokens"):
        token_span(tokenizer, prompt, "cardiomegaly")
    assert len(token_span(tokenizer, prompt, "cardiomegaly", max_length=60)) == 1
    assert len(token_span(tokenizer, prompt, "x")) == 22


@pytest.mark.parametrize("word", ["", "  ", "日本"])
def test_span_of_nothing(tokenizer, word):
    with pytest.raises(ModelError, match="no tokens"):
        token_span(tokenizer, "heart 中国", word)
