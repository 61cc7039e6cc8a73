"""Text encoders: own and Hugging Face layouts; token states."""

import string

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
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
from skiagraph.models.text import (
    encode_text,
    load_text_encoder,
    load_text_model,
    small_text_encoder,
    train_tokenizer,
)
from tiny import CORPUS

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    return small_text_encoder(tokenizer, hidden_size=16, layers=2, heads=2, max_length=24).eval()


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
    for load in (load_text_encoder, load_text_model):
        with pytest.raises(ModelError, match=r"lacks 16 weights of BertModel: encoder\.layer\.1"):
            load(tmp_path)


def test_damaged_weights(encoder, tokenizer, tmp_path):
    encoder.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10" * 40)
    for load in (load_text_encoder, load_text_model):
        with pytest.raises(ModelError, match="does not load"):
            load(tmp_path)


def test_the_model_alone_has_no_pooling_layer_and_needs_no_tokenizer(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    loaded = load_text_model(tmp_path)
    assert loaded.pooler is None
    assert not loaded.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_a_hub_id_is_not_downloaded(tmp_path):
    with pytest.raises(ModelError, match="nor in the local cache"):
        load_text_encoder("nobody/no-such-text-encoder")
    with pytest.raises(ModelError, match="does not load"):
        load_text_encoder(tmp_path)
