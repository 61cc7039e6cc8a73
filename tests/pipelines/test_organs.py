"""Providers of organ masks, the foreign ones with stand-ins for their packages."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import skiagraph.pipelines.organs as organs
import tiny
from dicom_files import segmentation
from skiagraph.data.chest.anatomy import REGIONS, complete_regions
from skiagraph.data.images import Radiograph
from skiagraph.errors import DataError, MaskError, ModelError
from skiagraph.pipelines.organs import (
    check_lungs,
    cxas_organs,
    find_lungs,
    organ_regions,
    shipped_organs,
    torchxrayvision_organs,
)

SIDE = 64
IMAGE = np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float32)


def lungs(shift=0, height=30):
    right, left = np.zeros((2, SIDE, SIDE), bool)
    right[15 : 15 + height, 8:24] = True
    left[15 + shift : 15 + shift + height, 40:56] = True
    return right, left


def test_lungs_look_like_lungs():
    right, left = lungs()
    check_lungs(right, left)
    for wrong, message in (
        ((right, np.zeros_like(left)), "no two lungs"),
        ((right, ~right), "no two lungs"),
        ((left, right), "side by side"),
        ((right, lungs(shift=16)[1]), "side by side"),
    ):
        with pytest.raises(DataError, match=message):
            check_lungs(*wrong)


def test_the_shipped_segmenter_keeps_the_largest_piece(monkeypatch):
    right, left = lungs()
    classes = right + 2 * left
    classes[2:4, 60:62] = 2
    network = tiny.lung_segmenter()
    network.segment = lambda images: torch.from_numpy(classes.astype(np.uint8))[None].expand(len(images), -1, -1)
    found = find_lungs(network, torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8))
    assert found.shape == (2, SIDE, SIDE)
    assert np.array_equal(found[1], right + 2 * left)
    monkeypatch.setattr(organs, "load_segmenter", lambda name: network)
    monkeypatch.setattr(organs, "scores_of_views", lambda *_: (hot, torch.tensor([0.95])))
    hot = torch.from_numpy(np.eye(3, dtype=np.float32)[classes]).movedim(-1, 0)[None]
    assert np.array_equal(shipped_organs(IMAGE)["left lung"], left)
    monkeypatch.setattr(organs, "scores_of_views", lambda *_: (hot, torch.tensor([0.9])))
    with pytest.raises(DataError, match="for sure"):
        shipped_organs(IMAGE)


def test_the_shipped_segmenter_is_loaded_once(monkeypatch):
    loaded = []
    original = organs.load_component
    monkeypatch.setattr(organs, "load_component", lambda name: loaded.append(name) or original(name))
    organs.load_segmenter.cache_clear()
    for _ in range(3):
        with pytest.raises(DataError):
            shipped_organs(np.zeros((64, 64), np.float32))
    assert loaded == [organs.SEGMENTER]


def test_most_pictures_without_lungs_are_refused():
    rng, refused = np.random.default_rng(0), 0
    for _ in range(10):
        try:
            shipped_organs(rng.random((256, 256)).astype(np.float32))
        except DataError as error:
            refused += "frontal chest radiograph" in str(error)
    assert refused >= 6


def test_regions_are_completed_and_given_ones_kept():
    right, left = lungs()
    heart = np.zeros_like(right)
    heart[40:50, 26:38] = True
    regions = complete_regions({"right lung": right, "left lung": left, "heart": heart, "aorta": heart})
    assert set(REGIONS) < set(regions)
    assert regions["heart"] is heart
    with pytest.raises(DataError, match="no mask of the left lung"):
        complete_regions({"right lung": right})


def test_foreign_networks_are_named_where_they_are_not_installed(monkeypatch):
    for package in ("torchxrayvision", "torchxrayvision.baseline_models.chestx_det", "cxas"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match="torchxrayvision is not installed"):
        torchxrayvision_organs(IMAGE)
    with pytest.raises(ModelError, match="cxas is not installed"):
        cxas_organs(IMAGE)


def test_torchxrayvision_gets_its_own_range_and_names(monkeypatch):
    right, left = lungs()
    ranges = []

    class PSPNet(torch.nn.Module):
        targets = ("Left Lung", "Right Lung", "Heart", "Spine")

        def forward(self, x):
            ranges.append((float(x.min()), float(x.max()), tuple(x.shape)))
            maps = torch.from_numpy(np.stack([left, right, right & left, right])).float() * 20 - 10
            return torch.nn.functional.interpolate(maps[None], (512, 512), mode="nearest")

    fake(monkeypatch, "torchxrayvision.baseline_models.chestx_det", PSPNet=PSPNet)
    found = torchxrayvision_organs(IMAGE)
    assert set(found) == {"right lung", "left lung", "heart"}
    assert np.array_equal(found["right lung"], right)
    assert np.array_equal(found["left lung"], left)
    low, high, shape = ranges[0]
    assert -1024 <= low < -900 < 900 < high <= 1024
    assert shape == (1, 1, SIDE, SIDE)


def test_cxas_is_given_a_file_and_read_by_label(monkeypatch):
    right, left = lungs()

    class CXAS:
        def __init__(self, model_name, gpus):
            pass

        def process_file(self, filename, do_store, output_directory):
            assert filename.endswith(".png")
            return {"segmentation_preds": [torch.from_numpy(np.stack([left, right, left & right]))]}

    fake(monkeypatch, "cxas.label_mapper", id2label_dict={"0": "left lung", "1": "right lung", "2": "heart"})
    fake(monkeypatch, "cxas", CXAS=CXAS)
    found = cxas_organs(IMAGE)
    assert np.array_equal(found["right lung"], right)
    assert np.array_equal(found["left lung"], left)
    assert not found["heart"].any()


def fake(monkeypatch, name, **contents):
    parts = name.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**contents))


def radiograph(shape=(SIDE, SIDE), uid=None):
    return Radiograph(np.zeros(shape, np.float32), Path("x.dcm"), uid=uid)


def test_lungs_come_from_a_picture_of_masks(tmp_path):
    right, left = lungs()
    Image.fromarray((right + 2 * left).astype(np.uint8)).save(tmp_path / "sides.png")
    Image.fromarray((right | left).astype(np.uint8) * 255).save(tmp_path / "both.png")
    for name in ("sides.png", "both.png"):
        found = organ_regions(str(tmp_path / name), IMAGE, radiograph())
        assert np.array_equal(found["right lung"], right)
        assert np.array_equal(found["left lung"], left)
    with pytest.raises(MaskError, match="both need one size"):
        organ_regions(str(tmp_path / "both.png"), IMAGE, radiograph((SIDE, SIDE + 2)))
    Image.fromarray(right.astype(np.uint8) * 255).save(tmp_path / "one.png")
    with pytest.raises(MaskError, match="cannot be read"):
        organ_regions(str(tmp_path / "one.png"), IMAGE, radiograph())
    Image.fromarray((np.arange(SIDE * SIDE) % 9).reshape(SIDE, SIDE).astype(np.uint8)).save(tmp_path / "many.png")
    with pytest.raises(MaskError, match="have the values"):
        organ_regions(str(tmp_path / "many.png"), IMAGE, radiograph())


def test_lungs_of_another_dicom_image_are_refused(tmp_path):
    right, left = lungs()
    segmentation(tmp_path / "s.dcm", {"right lung": right, "left lung": left}, of="1.2.3")
    assert organ_regions(str(tmp_path / "s.dcm"), IMAGE, radiograph(uid="1.2.3"))["left lung"].any()
    assert organ_regions(str(tmp_path / "s.dcm"), IMAGE, radiograph())["left lung"].any(), "a PNG states no UID"
    with pytest.raises(MaskError, match="of another image"):
        organ_regions(str(tmp_path / "s.dcm"), IMAGE, radiograph(uid="1.2.4"))


def test_lungs_come_from_any_segmenter_of_both(tmp_path, monkeypatch):
    right, left = lungs()
    network = tiny.lung_segmenter()
    network.save_pretrained(tmp_path / "m")
    small = (right + 2 * left)[::2, ::2].astype(np.uint8)
    network.segment = lambda images: torch.from_numpy(small)[None]
    monkeypatch.setattr(organs, "load_segmenter", lambda name: network)
    found = organ_regions(str(tmp_path / "m"), IMAGE, radiograph())
    assert (found["right lung"] != right).mean() < 0.05
    assert complete_regions(found).keys() >= set(REGIONS)
    monkeypatch.undo()
    tiny.latent_segmenter(in_channels=1, classes=("background", "polyp")).save_pretrained(tmp_path / "polyps")
    with pytest.raises(ModelError, match="segments polyp; organs need"):
        organ_regions(str(tmp_path / "polyps"), IMAGE, radiograph())
    tiny.autoencoder().save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="not a segmenter"):
        organ_regions(str(tmp_path / "other"), IMAGE, radiograph())
    with pytest.raises(DataError, match="no organs 'magic'"):
        organ_regions("magic", IMAGE, radiograph())
