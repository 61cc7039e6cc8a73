"""The editing job on a tiny model, with the phantom's own lungs for regions."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import phantoms
import skiagraph.engine.edit as job
import tiny
from skiagraph.data.anatomy import regions_of
from skiagraph.data.images import read_radiograph
from skiagraph.engine.edit import EditConfig, edit
from skiagraph.errors import DataError, ImageError, MaskError, ReportError
from skiagraph.pipelines.counterfactual import EditSettings

FAST = EditSettings(steps=4, strength=0.5)


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """A phantom wider than high and larger than the model's size; its lungs are found wherever they are looked for."""
    pixels, mask = phantoms.thorax(np.random.default_rng(0), side=128)
    Image.fromarray(pixels[8:120]).save(tmp_path / "x.png")

    def regions(image):
        lungs = np.zeros((128, 128), bool)
        lungs[8:120] = mask[8:120] > 0
        lungs = lungs[::2, ::2]
        middle = lungs.shape[1] // 2
        right, left = lungs.copy(), lungs.copy()
        right[:, middle:] = left[:, :middle] = False
        return regions_of(right, left)

    monkeypatch.setattr(job, "find_regions", regions)
    return tmp_path / "x.png"


def config(picture, model, **changes):
    values = {"image": str(picture), "to": "Left effusion.", "model": str(model), "settings": FAST, **changes}
    return EditConfig(**values)


def test_an_edit_keeps_size_and_everything_outside(picture, tiny_model, tmp_path):
    out = tmp_path / "out"
    manifest = edit(config(picture, tiny_model, source="PA view. Adult.", progression=2), out)
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert manifest["target"] == "left pleural effusion. PA view. adult"
    assert manifest["source"] == "PA view. adult"
    before = read_radiograph(picture).pixels
    assert [row["strength"] for row in manifest["frames"]] == [0.25, 0.5]
    for row in manifest["frames"]:
        after = read_radiograph(out / row["file"]).pixels
        assert after.shape == before.shape == (112, 128)
        assert row["largest_change_outside"] == 0
        changed = np.abs(after - before) > 1 / 255
        assert not changed[:, :64].any(), "the left lung lies on the right of the picture"
        assert "Synthetic" in Image.open(out / row["file"]).text
    assert {"before.png", "difference-2.png", "contact-sheet.png"} <= {p.name for p in out.iterdir()}


def test_findings_are_taken_away_where_they_are(picture, tiny_model, tmp_path):
    manifest = edit(config(picture, tiny_model, to="Normal chest.", source="Right effusion."), tmp_path / "o")
    assert manifest["target"].startswith("normal chest")
    after, before = (read_radiograph(p).pixels for p in (tmp_path / "o/after-1.png", picture))
    assert not (np.abs(after - before) > 1 / 255)[:, 64:].any()


def test_a_mask_file_takes_the_place_of_words(picture, tiny_model, tmp_path):
    mask = np.zeros((112, 128), np.uint8)
    mask[20:60, 70:110] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    edit(config(picture, tiny_model, roi=str(tmp_path / "m.png")), tmp_path / "o")
    after, before = (read_radiograph(p).pixels for p in (tmp_path / "o/after-1.png", picture))
    changed = np.abs(after - before) > 1 / 255
    assert changed.any()
    assert not changed[mask == 0].any()


def test_what_cannot_be_edited_is_named_and_nothing_is_written(picture, tiny_model, tmp_path, monkeypatch):
    out = tmp_path / "o"
    with pytest.raises(ReportError, match="names a finding"):
        edit(config(picture, tiny_model, to="PA view."), out)
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match="both need one size"):
        edit(config(picture, tiny_model, roi=str(tmp_path / "m.png")), out)
    (tmp_path / "m.png").write_bytes(b"")
    with pytest.raises(MaskError, match="cannot be read"):
        edit(config(picture, tiny_model, roi=str(tmp_path / "m.png")), out)
    colours = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "c.png")
    with pytest.raises(ImageError, match="coloured"):
        edit(config(tmp_path / "c.png", tiny_model), out)
    monkeypatch.undo()
    blind = tiny.lung_segmenter()
    blind.segment = lambda images: torch.zeros(1, *images.shape[-2:], dtype=torch.uint8)
    monkeypatch.setattr(job, "load_component", lambda name: blind)
    with pytest.raises(DataError, match="no two lungs"):
        edit(config(picture, tiny_model), out)
    assert not out.exists()


def test_lateral_views_are_refused(picture, tiny_model, tmp_path, monkeypatch):
    whole = job.read_radiograph
    monkeypatch.setattr(job, "read_radiograph", lambda path: job.replace(whole(path), view="LATERAL"))
    with pytest.raises(ImageError, match="lateral"):
        edit(config(picture, tiny_model), tmp_path / "o")
