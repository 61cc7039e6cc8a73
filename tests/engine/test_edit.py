"""The editing job on a tiny model, with the phantom's own lungs for regions."""

import json
import shutil

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.uid import generate_uid

import phantoms
import skiagraph.engine.edit as job
import skiagraph.pipelines.organs as organs
import tiny
from dicom_files import segmentation, write_dicom
from skiagraph.data.chest.anatomy import regions_of
from skiagraph.data.images import read_radiograph
from skiagraph.engine.edit import MARGIN, EditConfig, edit
from skiagraph.errors import DataError, ImageError, MaskError, ModelError, ReportError, SkiagraphError
from skiagraph.pipelines.counterfactual import EditSettings, edit_image
from skiagraph.progress import silent

FAST = EditSettings(steps=4, strength=0.5, one_way=False)


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """A phantom wider than high and larger than the model's size; its lungs are found wherever they are looked for."""
    pixels, mask = phantoms.thorax(np.random.default_rng(0), side=128)
    Image.fromarray(pixels[8:120]).save(tmp_path / "x.png")

    def regions(organs, image, radiograph):
        lungs = np.zeros((128, 128), bool)
        lungs[8:120] = mask[8:120] > 0
        lungs = lungs[::2, ::2]
        middle = lungs.shape[1] // 2
        right, left = lungs.copy(), lungs.copy()
        right[:, middle:] = left[:, :middle] = False
        return regions_of(right, left)

    monkeypatch.setattr(job, "organ_regions", regions)
    return tmp_path / "x.png"


def config(picture, model, **changes):
    values = {"image": str(picture), "to": "Left effusion.", "model": str(model), "settings": FAST, **changes}
    return EditConfig(**values)


def test_findings_that_only_go_are_cleared_with_more_strength(picture, tiny_model, tmp_path):
    settings = EditSettings(steps=4, strength=0.5, clearing=0.75)
    assert (settings.to_clear().strength, settings.to_clear().guidance) == (0.75, EditSettings.clearing_guidance)
    asked = {"Normal chest.": 0.75, "Right effusion.": 0.5}
    for number, (to, strength) in enumerate(asked.items()):
        made = config(picture, tiny_model, to=to, source="Left effusion.", settings=settings)
        assert edit(made, tmp_path / str(number))["frames"][0]["strength"] == strength


def test_an_edit_knows_whether_its_findings_make_denser_or_darker(picture, tiny_model, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        job, "edit_image", lambda *a, **given: told.append(given["direction"]) or edit_image(*a, **given)
    )
    edit(config(picture, tiny_model, to="Left effusion."), tmp_path / "come")
    edit(config(picture, tiny_model, to="Normal chest.", source="Left effusion."), tmp_path / "go")
    edit(config(picture, tiny_model, to="Right effusion.", source="Left effusion."), tmp_path / "both")
    assert told == [1, -1, 0]


def test_an_edit_keeps_size_and_everything_outside(picture, tiny_model, tmp_path):
    out = tmp_path / "out"
    manifest = edit(config(picture, tiny_model, source="PA view. Adult.", progression=2), out)
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert manifest["target"] == "left pleural effusion. PA view. adult"
    assert manifest["source"] == "normal chest. clear lungs. PA view. adult"
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


def test_one_finding_of_two_is_taken_away(picture, tiny_model, tmp_path):
    """Nothing outside its place changes, and the words that stay are not amplified there."""
    wish = {"to": "Cardiomegaly.", "source": "Cardiomegaly. Right effusion."}
    manifest = edit(config(picture, tiny_model, **wish), tmp_path / "o")
    after, before = (read_radiograph(p).pixels for p in (tmp_path / "o/after-1.png", picture))
    changed = np.abs(after - before) > 1 / 255
    assert changed.any()
    assert not changed[:, 64:].any()
    assert manifest["frames"][0]["localisation"] == []


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
    for words in ("PA view.", "Hello there.", "No pneumothorax."):
        with pytest.raises(ReportError, match="names a finding"):
            edit(config(picture, tiny_model, to=words), out)
    with pytest.raises(ReportError, match="empty"):
        edit(config(picture, tiny_model, to=" "), out)
    with pytest.raises(ReportError, match="nothing would change"):
        edit(config(picture, tiny_model, source="Effusion on the left."), out)
    with pytest.raises(ImageError, match="lateral view"):
        edit(config(picture, tiny_model, source="Lateral view of the chest."), out)
    Image.fromarray(np.zeros((112, 128), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match="is empty"):
        edit(config(picture, tiny_model, roi=str(tmp_path / "m.png")), out)
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
    blind.scores = lambda images: torch.tensor([1.0, 0, 0])[None, :, None, None].expand(1, 3, *images.shape[-2:])
    monkeypatch.setattr(organs, "load_segmenter", lambda name: blind)
    with pytest.raises(DataError, match="no two lungs"):
        edit(config(picture, tiny_model), out)
    assert not out.exists()


def test_a_model_of_other_pictures_is_refused(picture, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "m")
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps(index | {"domain": "colonoscopy"}))
    with pytest.raises(ModelError, match="domain 'colonoscopy', of which edits know nothing"):
        edit(config(picture, model), tmp_path / "o")


def test_lateral_views_are_refused(picture, tiny_model, tmp_path, monkeypatch):
    whole = job.read_radiograph
    monkeypatch.setattr(job, "read_radiograph", lambda path: job.replace(whole(path), view="LATERAL"))
    with pytest.raises(ImageError, match="lateral"):
        edit(config(picture, tiny_model), tmp_path / "o")


@pytest.mark.parametrize(("height", "width"), [(131, 97), (61, 203)])
def test_odd_sizes_come_back_as_they_were(picture, tiny_model, tmp_path, height, width):
    pixels = np.array(Image.open(picture).resize((width, height)))
    Image.fromarray(pixels).save(tmp_path / "odd.png")
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    edit(config(tmp_path / "odd.png", tiny_model, roi=str(tmp_path / "m.png")), tmp_path / "o")
    changed = np.abs(read_radiograph(tmp_path / "o/after-1.png").pixels - pixels / 255) > 1e-6
    assert changed.shape == (height, width)
    assert changed.any()
    assert not changed[mask == 0].any()


def test_organs_come_from_a_dicom_seg_file(picture, tiny_model, tmp_path, monkeypatch):
    monkeypatch.undo()
    right, left = np.zeros((2, 112, 128), bool)
    right[30:90, 15:50] = left[30:90, 75:115] = True
    segmentation(tmp_path / "seg.dcm", {"Right lung": right, "Left Lung": left})
    edit(config(picture, tiny_model, organs=str(tmp_path / "seg.dcm")), tmp_path / "o")
    after, before = (read_radiograph(p).pixels for p in (tmp_path / "o/after-1.png", picture))
    changed = np.abs(after - before) > 1 / 255
    rows, columns = np.nonzero(changed)
    margin = MARGIN * 128 + 2
    assert columns.min() >= 75 - margin
    assert rows.min() >= 70 - margin, "an effusion lies at the lung's base"
    segmentation(tmp_path / "small.dcm", {"right lung": right[:50], "left lung": left[:50]})
    with pytest.raises(MaskError, match="both need one size"):
        edit(config(picture, tiny_model, organs=str(tmp_path / "small.dcm")), tmp_path / "p")
    with pytest.raises(DataError, match="no organs 'magic'; known: shipped"):
        edit(config(picture, tiny_model, organs="magic"), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_folder_is_edited_picture_by_picture_and_goes_on(picture, tiny_model, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(picture.read_bytes())
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(folder / "flat.png")
    manifest = edit(config(folder, tiny_model), tmp_path / "o", listen=silent)
    assert [row["folder"] for row in manifest["edits"]] == ["a", "b"]
    assert "constant" in manifest["failed"][0]["error"]
    alone = edit(config(picture, tiny_model), tmp_path / "one", listen=silent)
    for row in manifest["edits"]:
        assert row["frames"][0]["sha256"] == alone["frames"][0]["sha256"]
        assert (tmp_path / "o" / row["frames"][0]["file"]).is_file()
    (tmp_path / "o/b/after-1.png").unlink()
    made = []
    monkeypatch.setattr(job, "edit_image", lambda *a, **k: made.append(1) or edit_image(*a, **k))
    assert edit(config(folder, tiny_model), tmp_path / "o", listen=silent)["edits"] == manifest["edits"]
    assert len(made) == 1


def test_a_table_says_what_each_radiograph_is_to_show(picture, tiny_model, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("image,to,from\nx.png,Left effusion.,\nx.png,Normal chest.,Right effusion.\n")
    rows = edit(config(table, tiny_model, to=""), tmp_path / "o", listen=silent)["edits"]
    assert [row["folder"] for row in rows] == ["00000-x", "00001-x"]
    assert rows[0]["target"].startswith("left pleural effusion")
    assert rows[1]["source"].startswith("right pleural effusion")


def test_every_finding_is_judged_before_and_after(picture, tiny_model, tmp_path):
    wish = {"to": "Left effusion.", "source": "Cardiomegaly."}
    frame = edit(config(picture, tiny_model, **wish), tmp_path / "o", listen=silent)["frames"][0]
    by_name = {said["finding"]: said for said in frame["read"]}
    assert (by_name["effusion"]["wanted"], by_name["cardiomegaly"]["wanted"]) == (True, False)
    for said in by_name.values():
        change = said["after"] - said["before"]
        assert said["towards"] == pytest.approx(change if said["wanted"] else -change, abs=2e-4)
        assert isinstance(said["placed"], bool)
        assert not said["done"] or said["placed"]
    assert {"left lower zone", "right upper zone", "heart"} <= frame["density_change"].keys()


def test_an_edit_is_not_written_over_another(picture, tiny_model, tmp_path):
    first = edit(config(picture, tiny_model), tmp_path / "o", listen=silent)
    with pytest.raises(SkiagraphError, match="another run"):
        edit(config(picture, tiny_model, to="Right effusion."), tmp_path / "o", listen=silent)
    assert edit(config(picture, tiny_model), tmp_path / "o", listen=silent)["frames"] == first["frames"]
    second = edit(config(picture, tiny_model, to="Right effusion."), tmp_path / "o", overwrite=True, listen=silent)
    assert second["target"].startswith("right pleural effusion")


def test_the_bits_of_the_input_are_the_output_s(picture, tiny_model, tmp_path):
    deep = np.asarray(Image.open(picture)).astype(np.uint16) * 256 + 77
    Image.fromarray(deep).save(tmp_path / "deep.png")
    edit(config(tmp_path / "deep.png", tiny_model), tmp_path / "o", listen=silent)
    stored = np.asarray(Image.open(tmp_path / "o/after-1.png")).astype(int)
    assert stored.max() > 255
    assert np.array_equal(stored[:, :40], deep[:, :40]), "the other side is as it was, to the last bit"
    assert (stored != deep).any()


def test_a_dicom_radiograph_gives_a_derived_one(picture, tiny_model, tmp_path):
    values = np.asarray(Image.open(picture)).astype(np.uint16) * 16
    tags = {"PatientID": "p1", "StudyInstanceUID": generate_uid(), "PixelSpacing": [0.2, 0.2], "ViewPosition": "PA"}
    source = pydicom.dcmread(write_dicom(tmp_path / "x.dcm", values, Modality="DX", **tags))
    edit(config(tmp_path / "x.dcm", tiny_model), tmp_path / "o", listen=silent)
    made = pydicom.dcmread(tmp_path / "o/after-1.dcm")
    assert made.ImageType[0] == "DERIVED"
    assert "Synthetic" in made.ImageComments
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert (made.PatientID, made.StudyInstanceUID) == ("p1", source.StudyInstanceUID)
    assert made.PixelSpacing == [0.2, 0.2]
    after = np.asarray(Image.open(tmp_path / "o/after-1.png")) / 65535
    np.testing.assert_allclose(read_radiograph(tmp_path / "o/after-1.dcm").pixels, after, atol=1 / 2048)


def test_findings_that_the_card_says_are_not_drawn_are_refused_unless_forced(picture, tiny_model, tmp_path):
    model = tmp_path / "m"
    shutil.copytree(tiny_model, model)
    (model / "README.md").write_text("---\nlicense: mit\nnot_drawn: [effusion]\n---\n# A model\n")
    with pytest.raises(ReportError, match="does not draw effusion"):
        edit(config(picture, model), tmp_path / "o", listen=silent)
    assert not (tmp_path / "o").exists()
    edit(config(picture, model, to="Normal chest.", source="Left effusion."), tmp_path / "gone", listen=silent)
    assert edit(config(picture, model, force=True), tmp_path / "o", listen=silent)["frames"]


def test_the_best_of_several_edits_is_kept(picture, tiny_model, tmp_path, monkeypatch):
    scores = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr(job.Reader, "__call__", lambda *_: [{"wanted": True, "towards": next(scores)}])
    starts = []
    whole = job.edit_image
    monkeypatch.setattr(
        job, "edit_image", lambda *a, **k: starts.append((k["settings"].start, k["seed"])) or whole(*a, **k)
    )
    frame = edit(config(picture, tiny_model, best_of=3), tmp_path / "o", listen=silent)["frames"][0]
    assert starts == [("inversion", 0), ("noise", 1), ("noise", 2)]
    assert frame["read"][0]["towards"] == 0.3


def test_a_model_of_another_domain_is_refused(picture, tiny_model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"domain": "colonoscopy"}))
    with pytest.raises(ModelError, match="makes pictures of the domain 'colonoscopy'"):
        edit(config(picture, other), tmp_path / "o")
    assert not (tmp_path / "o").exists()
