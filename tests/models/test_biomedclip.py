"""BiomedCLIP's text tower out of the files it is published as."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from skiagraph.errors import ModelError
from skiagraph.models import biomedclip
from skiagraph.models.biomedclip import load_biomedclip
from skiagraph.models.text import encode_text, load_text_encoder

pytestmark = pytest.mark.usefixtures("no_network")


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
    sizes = {k: getattr(tiny, k) for k in biomedclip.PUBMEDBERT}
    monkeypatch.setattr(biomedclip, "PUBMEDBERT", sizes)
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
