import json

import pytest
import torch

import tiny
from skiagraph.errors import ModelError
from skiagraph.models.registry import (
    DEFAULT_MODEL,
    DEFAULT_SEGMENTER,
    check_weights,
    load_component,
    model_folder,
    shipped_models,
)


def test_shipped_models_are_whole_and_small():
    assert {DEFAULT_MODEL, DEFAULT_SEGMENTER, "lung-segmenter-latent", "cxr-classifier"} <= set(shipped_models())
    folders = [model_folder(name) for name in shipped_models()]
    assert all((folder / "README.md").is_file() for folder in folders)
    size = sum(p.stat().st_size for folder in folders for p in folder.rglob("*.safetensors"))
    assert size <= 40 * 2**20


def test_no_place_of_the_machine_that_made_them_ships():
    for name in shipped_models():
        for path in model_folder(name).rglob("*.json"):
            assert "_name_or_path" not in path.read_text(encoding="utf-8"), path


def test_no_pickles_ship():
    for name in shipped_models():
        assert not [p for p in model_folder(name).rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]


def test_component_round_trip(tmp_path):
    made = tiny.autoencoder()
    made.save_pretrained(tmp_path / "a")
    loaded = load_component(tmp_path / "a")
    assert type(loaded) is type(made)
    assert all(torch.equal(x, y) for x, y in zip(loaded.parameters(), made.parameters(), strict=True))


def test_each_defect_of_a_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no model 'nowhere'.*cxr-256"):
        model_folder("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"neither model_index\.json nor config\.json"):
        model_folder(tmp_path / "empty")
    tiny.autoencoder().save_pretrained(tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "Stranger"}))
    with pytest.raises(ModelError, match="names class 'Stranger'"):
        load_component(tmp_path / "a")
    weights = next((tmp_path / "a").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ModelError, match="truncated or damaged"):
        check_weights(tmp_path / "a")
