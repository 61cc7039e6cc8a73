import json
from importlib.metadata import EntryPoint

import pytest
import torch

import tiny
from skiagraph import plugins
from skiagraph.errors import ModelError
from skiagraph.models.affinity_net import AffinityNet
from skiagraph.models.registry import (
    CHECKSUMS,
    DEFAULT_MODEL,
    DEFAULT_SEGMENTER,
    check_weights,
    load_component,
    model_folder,
    require_kind,
    shipped_models,
    write_checksums,
)


def test_shipped_models_are_whole_and_small():
    assert {DEFAULT_MODEL, DEFAULT_SEGMENTER, "lung-field-segmenter", "lung-segmenter-latent", "cxr-classifier"} <= set(
        shipped_models()
    )
    folders = [model_folder(name) for name in shipped_models()]
    assert all((folder / "README.md").is_file() and (folder / CHECKSUMS).is_file() for folder in folders)
    sizes = {f.name: sum(p.stat().st_size for p in f.rglob("*.safetensors")) for f in folders}
    assert sizes[DEFAULT_MODEL] <= 40e6
    assert sum(sizes.values()) <= 46e6


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
    with pytest.raises(ModelError, match="is a Stranger, which cannot be loaded as one network; needed: AffinityNet"):
        load_component(tmp_path / "a")
    weights = next((tmp_path / "a").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ModelError, match="truncated or damaged"):
        check_weights(tmp_path / "a")


def test_flipped_bytes_and_lost_files_are_found_by_checksum(tmp_path):
    folder = tmp_path / "a"
    tiny.autoencoder().save_pretrained(folder)
    write_checksums(folder)
    check_weights(folder)
    weights = next(folder.glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-50] + bytes(b ^ 255 for b in whole[-50:]))
    with pytest.raises(ModelError, match=rf"{weights.name} is damaged: its sha256"):
        load_component(folder)
    weights.write_bytes(whole)
    weights.rename(folder / "other.safetensors")
    with pytest.raises(ModelError, match="is damaged"):
        check_weights(folder)


def test_models_for_other_work_say_what_they_are_for():
    with pytest.raises(ModelError, match=r"cxr-256 is a TextToImagePipeline.*it is for `skiagraph generate`"):
        load_component("cxr-256")
    with pytest.raises(ModelError, match=r"is a Segmenter, which cannot paint; it is for `skiagraph segment`"):
        require_kind(model_folder("lung-segmenter"), "TextToImagePipeline", purpose="paint")


def test_networks_of_other_packages_load_by_their_class(tmp_path, monkeypatch):
    AffinityNet(channels=(8, 8, 8), features=4).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"_class_name": "Elsewhere"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is a Elsewhere, which cannot be loaded"):
        load_component(tmp_path)
    point = EntryPoint("Elsewhere", "skiagraph.models.affinity_net:AffinityNet", "skiagraph.models")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == point.group else [])
    assert isinstance(load_component(tmp_path), AffinityNet)


def test_networks_go_to_devices_that_are_there():
    assert load_component("lung-segmenter", device="cpu").device.type == "cpu"
    with pytest.raises(ModelError, match=r"no device 'vulkan'.*--device may be cpu"):
        load_component("lung-segmenter", device="vulkan")
