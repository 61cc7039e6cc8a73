"""The segmentation job on tiny models."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import phantoms
import skiagraph.engine.segment as job
import tiny
from dicom_files import write_dicom
from skiagraph.data.images import square
from skiagraph.data.masks import components, read_mask
from skiagraph.engine.segment import SegmentConfig, segment
from skiagraph.errors import ImageError, ModelError, SkiagraphError
from skiagraph.models.registry import load_component
from skiagraph.progress import silent


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.lung_segmenter().save_pretrained(folder / "unet")
    tiny.latent_segmenter().save_pretrained(folder / "latent")
    tiny.latent_segmenter(in_channels=3, classes=("background", "polyp")).save_pretrained(folder / "colour")
    tiny.autoencoder().save_pretrained(folder / "other")
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Five phantoms in two folders, none of them square."""
    rng, folder = np.random.default_rng(0), tmp_path / "in"
    for name, cut in (("a", 60), ("b", 50), ("sub/a", 40), ("sub/c", 44), ("sub/d", 64)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantoms.thorax(rng)[0][:cut]).save(folder / f"{name}.png")
    return folder


def config(pictures, model, **changes):
    return SegmentConfig(**{"inputs": (str(pictures),), "model": str(model), "batch_size": 2, **changes})


@pytest.mark.parametrize("name", ["unet", "latent"])
def test_masks_have_the_size_of_their_pictures(models, pictures, tmp_path, name):
    manifest = segment(config(pictures, models / name), tmp_path / "o", listen=silent)
    assert manifest == json.loads((tmp_path / "o/manifest.json").read_text())
    names = ["a", "b", "sub/a", "sub/c", "sub/d"]
    assert [row["mask"] for row in manifest["images"]] == [f"masks/{name}.png" for name in names]
    for row in manifest["images"]:
        picture, mask = Image.open(row["source"]), Image.open(tmp_path / "o" / row["mask"])
        assert mask.size == picture.size
        assert mask.text["Classes"] == "0 background, 1 right lung, 2 left lung"
        assert row["area"]["left lung"] == pytest.approx((np.asarray(mask) == 2).mean(), abs=1e-6)
    assert manifest["failed"] == []


def test_a_square_picture_gets_what_the_model_says_of_it(models, pictures, tmp_path):
    pixels = np.asarray(Image.open(pictures / "sub/d.png"), np.float32) / 255
    segment(config(pictures / "sub/d.png", models / "unet", check=False), tmp_path / "o", listen=silent)
    model = load_component(models / "unet").eval()
    scores = model.scores(torch.from_numpy(square(pixels, 32))[None, None] * 2 - 1)[0].numpy()
    large = [np.asarray(Image.fromarray(plane).resize((64, 64), Image.Resampling.BICUBIC)) for plane in scores]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "o/masks/d.png")), np.argmax(large, axis=0))


def test_doubtful_masks_are_flagged(models, pictures, tmp_path):
    """A model of random weights finds no lungs; one that asks for more agreement than there is says so."""
    manifest = segment(config(pictures, models / "unet"), tmp_path / "o", listen=silent)
    with open(tmp_path / "o/masks.csv", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    for row, line in zip(manifest["images"], lines, strict=True):
        assert 0 <= row["agreement"] <= 1
        assert "lung" in row["flag"]
        assert (line["flag"], float(line["agreement"])) == (row["flag"], row["agreement"])
    strict = load_component(models / "unet")
    strict.register_to_config(least_agreement=1.0)
    strict.save_pretrained(tmp_path / "strict")
    doubted = segment(config(pictures, tmp_path / "strict"), tmp_path / "s", listen=silent)["images"]
    assert all("views of the picture agree" in row["flag"] for row in doubted if row["agreement"] < 1)
    unchecked = segment(config(pictures, models / "unet", check=False), tmp_path / "u", listen=silent)
    assert "flag" not in unchecked["images"][0]


def test_a_model_of_whole_lungs_keeps_one_piece_of_each(models, pictures, tmp_path):
    whole = load_component(models / "unet")
    whole.register_to_config(one_piece=True)
    whole.save_pretrained(tmp_path / "whole")
    segment(config(pictures, tmp_path / "whole"), tmp_path / "o", listen=silent)
    for path in (tmp_path / "o/masks").rglob("*.png"):
        labels = np.asarray(Image.open(path))
        assert all(sum(1 for _ in components(labels == k)) <= 1 for k in (1, 2))


def test_batches_do_not_change_masks(models, pictures, tmp_path):
    one = segment(config(pictures, models / "latent", batch_size=1), tmp_path / "1", listen=silent)
    all_ = segment(config(pictures, models / "latent", batch_size=5), tmp_path / "5", listen=silent)
    assert one["config_hash"] == all_["config_hash"]
    for row in one["images"]:
        a, b = (np.asarray(Image.open(tmp_path / n / row["mask"])) for n in "15")
        assert (a != b).mean() < 0.01, "but for rounding"


@pytest.mark.parametrize("name", ["unet", "latent"])
def test_half_precision_says_nearly_the_same(models, pictures, tmp_path, name):
    full = segment(config(pictures, models / name), tmp_path / "f", listen=silent)
    half = segment(config(pictures, models / name, dtype="bfloat16"), tmp_path / "h", listen=silent)
    for a, b in zip(full["images"], half["images"], strict=True):
        masks = [np.asarray(Image.open(tmp_path / f / r["mask"])) for f, r in (("f", a), ("h", b))]
        assert (masks[0] != masks[1]).mean() < 0.1


def test_a_stopped_run_goes_on_without_repeating_or_losing_one(models, pictures, tmp_path, monkeypatch):
    whole, made = job._write, []

    def killed(item, *args):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(item.name)
        return whole(item, *args)

    monkeypatch.setattr(job, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        segment(config(pictures, models / "unet"), tmp_path / "o", listen=silent)
    monkeypatch.undo()
    again = []
    monkeypatch.setattr(job, "_write", lambda item, *args: again.append(item.name) or whole(item, *args))
    manifest = segment(config(pictures, models / "unet"), tmp_path / "o", listen=silent)
    assert sorted(made + again) == ["a", "b", "sub/a", "sub/c", "sub/d"]
    assert len(manifest["images"]) == 5
    again.clear()
    (tmp_path / "o/masks/b.png").write_bytes(b"")
    assert segment(config(pictures, models / "unet"), tmp_path / "o", listen=silent)["images"] == manifest["images"]
    assert again == ["b"]


def test_files_that_cannot_be_read_are_listed_and_tried_again(models, pictures, tmp_path):
    broken = pictures / "b.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:200])
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(pictures / "flat.jpg")
    (pictures / "notes.txt").write_text("not a picture")
    manifest = segment(config(pictures, models / "unet"), tmp_path / "o", listen=silent)
    assert [row["source"] for row in manifest["failed"]] == [str(broken), str(pictures / "flat.jpg")]
    assert "constant" in manifest["failed"][1]["error"]
    assert len(manifest["images"]) == 4
    broken.write_bytes(good)
    manifest = segment(config(pictures, models / "unet"), tmp_path / "o", listen=silent)
    assert len(manifest["images"]) == 5
    assert len(manifest["failed"]) == 1


def test_uncertainty_is_written_beside_the_mask(models, pictures, tmp_path):
    manifest = segment(config(pictures, models / "latent", uncertainty=3, steps=2), tmp_path / "o", listen=silent)
    for row in manifest["images"]:
        picture = Image.open(tmp_path / "o" / row["uncertainty"])
        assert picture.size == Image.open(row["source"]).size
        assert row["mean_uncertainty"] == pytest.approx(np.asarray(picture).mean() / 255, abs=0.01)
    assert any(row["mean_uncertainty"] > 0 for row in manifest["images"])


def test_colour_pictures_for_a_colour_model(models, tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "c.png")
    manifest = segment(config(tmp_path / "c.png", models / "colour"), tmp_path / "o", listen=silent)
    stored = np.asarray(Image.open(tmp_path / "o/masks/c.png"))
    assert stored.shape == (48, 64)
    assert set(np.unique(stored)) <= {0, 255}
    assert read_mask(tmp_path / "o/masks/c.png", 32, fit="pad", classes=["polyp"]).shape == (32, 32)
    grey = segment(config(tmp_path / "c.png", models / "unet"), tmp_path / "g", listen=silent)
    assert "coloured" in grey["failed"][0]["error"]
    assert manifest["failed"] == []


def test_mistakes_are_named_before_anything_is_written(models, pictures, tmp_path):
    out = tmp_path / "o"
    for wrong, error, message in (
        ({"inputs": (str(tmp_path / "gone"),)}, ImageError, "does not exist"),
        ({"inputs": (str(models / "unet"),)}, ImageError, "no pictures"),
        ({"inputs": (str(pictures / "a.png"), str(pictures / "sub/a.png"))}, ImageError, r"2 inputs are named a\.png"),
        ({"model": models / "other"}, ModelError, "not a segmenter"),
        ({"uncertainty": 2}, ModelError, "need a latent segmenter"),
        ({"steps": 2}, ModelError, "need a latent segmenter"),
    ):
        with pytest.raises(error, match=message):
            segment(config(pictures, **{"model": models / "unet", **wrong}), out, listen=silent)
        assert not out.exists()
    segment(config(pictures, models / "unet"), out, listen=silent)
    with pytest.raises(SkiagraphError, match="another run"):
        segment(config(pictures, models / "latent"), out, listen=silent)


def test_other_files_of_a_folder_are_listed_with_why(models, pictures, tmp_path):
    (pictures / "notes.txt").write_text("not a picture")
    manifest = segment(config(pictures, models / "unet"), tmp_path / "o", listen=silent)
    assert manifest["failed"] == []
    assert list(manifest["passed_over"]) == [str(pictures / "notes.txt")]
    assert "no PNG" in manifest["passed_over"][str(pictures / "notes.txt")]


def test_the_table_has_a_line_for_each_mask_with_areas(models, pictures, tmp_path):
    write_dicom(pictures / "x.dcm", np.asarray(Image.open(pictures / "a.png")), PixelSpacing=[0.5, 0.25])
    manifest = segment(config(pictures, models / "unet"), tmp_path / "o", listen=silent)
    with open(tmp_path / "o/masks.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["mask"] for line in lines] == [row["mask"] for row in manifest["images"]]
    for line in lines:
        labels = np.asarray(Image.open(tmp_path / "o" / line["mask"]))
        assert (int(line["height"]), int(line["width"])) == labels.shape
        assert float(line["area left lung"]) == pytest.approx((labels == 2).mean(), abs=1e-6)
        mm2 = (labels == 2).sum() * 0.125
        stated = line["source"].endswith(".dcm")
        assert line["area_mm2 left lung"] == (str(round(mm2, 2)) if stated else "")


@pytest.mark.parametrize("name", ["unet", "colour"])
def test_the_sheet_shows_masks_on_their_pictures(models, pictures, tmp_path, name):
    segment(config(pictures, models / name), tmp_path / "o", listen=silent)
    sheet = Image.open(tmp_path / "o/contact-sheet.png")
    assert sheet.mode == "RGB"
    assert "Synthetic" not in sheet.text, "these pictures are real"


def test_lateral_views_are_refused(models, tmp_path):
    side = write_dicom(tmp_path / "in/x.dcm", Modality="DX", ViewPosition="LL")
    manifest = segment(config(side, models / "unet"), tmp_path / "o", listen=silent)
    assert "lateral" in manifest["failed"][0]["error"]
