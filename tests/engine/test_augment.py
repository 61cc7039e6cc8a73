"""The augmentation job: what is written, resumed, dropped and refused."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import phantoms
import skiagraph.engine.augment as job
import tiny
from skiagraph.data.datasets import read_folder
from skiagraph.engine.augment import AugmentConfig, Prompt, augment, read_prompts
from skiagraph.engine.gate import GateConfig
from skiagraph.errors import DataError, ModelError, SkiagraphError
from skiagraph.pipelines.inpaint import InpaintSettings, inpaint
from skiagraph.pipelines.paste import with_change
from skiagraph.progress import silent

PROMPTS = (Prompt("Right consolidation.", "Cardiomegaly."), Prompt("Small left pleural effusion."))
OPEN = GateConfig(least_change=0.001, seam_quantile=1.0, least_dice=0.0)


def painted(painter, image, mask, prompt, *, negative, seed, settings):
    """A brighter inside in place of a tiny model's, which no gate would pass; every fifth is left as it was."""
    brighter = np.random.default_rng(seed).uniform(0.05, 0.15) * (seed % 5 > 0)
    return with_change(image, np.full(image.shape, brighter, np.float32), mask, 8)


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    monkeypatch.setattr(job, "inpaint", painted)


@pytest.fixture(scope="module")
def given(tmp_path_factory, tiny_model):
    """Configuration on six drawn thoraces, with a gate that all pass but the unchanged."""
    root = phantoms.dataset(tmp_path_factory.mktemp("real"))
    tiny.lung_segmenter().save_pretrained(root / "judge")
    return AugmentConfig(
        dataset=str(root / "phantoms"), prompts=PROMPTS, ratio=0.67, model=str(tiny_model), judge=str(root / "judge"),
        settings=InpaintSettings(steps=2, guidance=1.0, strength=0.5), gate=OPEN,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    output = tmp_path_factory.mktemp("augmented") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "inpaint", painted)
        return output, augment(given, output, listen=silent)


def test_images_and_masks_stay_together_as_a_data_set(whole, given):
    output, manifest = whole
    assert manifest == json.loads((output / "manifest.json").read_text())
    rows = [row for row in manifest["images"] if row["dropped"] is None]
    assert len(rows) == manifest["wanted"] == 4
    assert [row["name"] for row in rows] == ["00001", "00002", "00003", "00004"]
    assert manifest["images"][0]["dropped"].startswith("unchanged: mean change inside the mask 0.0000")
    assert len({row["source"] for row in rows}) == 4, "every image is used once before any comes again"
    records = read_folder(output)
    real = {record.key: record for record in read_folder(job.Path(given.dataset))}
    for row, record in zip(rows, records, strict=True):
        source = real[row["source"]]
        assert (source.split, record.split) == ("train", "train")
        assert (record.patient, record.source) == (source.patient, source.key)
        assert row["prompt"] in {p.prompt for p in PROMPTS}
        assert (record.report or "") == row["report"]
        assert row["report"] == (row["prompt"] if all(read["done"] for read in row["read"]) else "")
        mask, kept = np.asarray(Image.open(source.mask)), np.asarray(Image.open(record.mask))
        assert np.array_equal(mask, kept)
        before, after = np.asarray(Image.open(source.path), int), np.asarray(Image.open(record.path), int)
        assert np.array_equal(before[mask == 0], after[mask == 0])
        assert (before != after).any()
        assert "Synthetic" in Image.open(record.path).text
        assert row["outside"] == 0
        assert {"change", "seam", "seam_bound", "dice"} <= row.keys()
    assert (output / "contact-sheet.png").is_file()


@pytest.mark.parametrize("calls", [1, 3])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(whole, given, tmp_path, monkeypatch, calls):
    made = []

    def cut(*args, **kwargs):
        made.append(None)
        if len(made) > calls:
            raise KeyboardInterrupt
        return painted(*args, **kwargs)

    monkeypatch.setattr(job, "inpaint", cut)
    with pytest.raises(KeyboardInterrupt):
        augment(given, tmp_path / "o", listen=silent)
    assert not (tmp_path / "o/metadata.csv").exists()
    made.clear()
    monkeypatch.setattr(job, "inpaint", lambda *a, **k: (made.append(None), painted(*a, **k))[1])
    assert augment(given, tmp_path / "o", listen=silent)["images"] == whole[1]["images"]
    assert len(made) == len(whole[1]["images"]) - calls


def test_a_damaged_image_is_made_again_alone(whole, given, tmp_path, monkeypatch):
    first = augment(given, tmp_path, listen=silent)
    row = next(row for row in first["images"] if row["dropped"] is None)
    before = (tmp_path / row["file"]).read_bytes()
    (tmp_path / row["file"]).write_bytes(before[:50])
    assert augment(given, tmp_path, listen=silent)["images"] == first["images"]
    assert (tmp_path / row["file"]).read_bytes() == before


def test_what_does_not_pass_is_left_out_and_says_why(given, tmp_path):
    strict = replace(given, gate=replace(OPEN, least_dice=1.01))
    with pytest.raises(SkiagraphError, match="no image passed the gate"):
        augment(strict, tmp_path, listen=silent)
    rows = json.loads((tmp_path / "manifest.json").read_text())["images"]
    assert len(rows) == job.TRIES * 4
    assert all(row["sha256"] is None for row in rows)
    assert all(("Dice with the judge's mask" in row["dropped"]) == (row["seed"] % 5 > 0) for row in rows)
    assert not (tmp_path / "images").exists()


def test_more_than_one_for_each_real_image(given, tmp_path):
    rows = augment(replace(given, ratio=1.5), tmp_path, listen=silent)["images"]
    kept = [row for row in rows if row["dropped"] is None]
    assert len(kept) == 9
    assert len({row["sha256"] for row in kept}) == 9


def test_colour_images_with_a_diffusers_model(given, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "inpaint", inpaint)
    monkeypatch.setattr(job.Gate, "fault", lambda self, found: None)  # random weights paint what no gate would pass
    phantoms.polyps(tmp_path)
    tiny.inpainting_pipeline().save_pretrained(tmp_path / "model")
    config = replace(given, dataset=str(tmp_path / "polyps"), model=str(tmp_path / "model"), judge=None, ratio=0.3)
    rows = augment(config, tmp_path / "o", listen=silent)["images"]
    kept = [row for row in rows if row["dropped"] is None]
    assert len(kept) == 2
    assert "dice" not in kept[0], "a segmenter of lungs says nothing of polyps"
    assert Image.open(tmp_path / "o" / kept[0]["file"]).mode == "RGB"
    assert Image.open(tmp_path / "o/contact-sheet.png").mode == "RGB"


def test_prompts_of_a_table(tmp_path):
    table = tmp_path / "p.csv"
    table.write_text("prompt,negative\nEdema.,Normal chest.\nNormal chest.,\n")
    assert read_prompts(table) == (Prompt("Edema.", "Normal chest."), Prompt("Normal chest."))
    table.write_text("prompt\nEdema.\n")
    assert read_prompts(table) == (Prompt("Edema."),)
    table.write_text("report\nEdema.\n")
    with pytest.raises(DataError, match="no column 'prompt'"):
        read_prompts(table)


@pytest.mark.parametrize("name", ["inpaint-cxr.csv", "inpaint-polyp.csv"])
def test_example_prompts_are_whole_and_varied(name):
    prompts = read_prompts(job.Path("examples") / name)
    assert len({p.prompt for p in prompts}) == len(prompts) >= 15
    assert all(p.negative for p in prompts)


def test_what_cannot_be_augmented_is_refused(given, tmp_path, tiny_model):
    phantoms.dataset(tmp_path)
    table = tmp_path / "phantoms/metadata.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    table.write_text("file,patient,split\n" + "\n".join(f"{r['file']},{r['patient']},train" for r in rows))
    with pytest.raises(DataError, match="no training image with a mask"):
        augment(replace(given, dataset=str(tmp_path / "phantoms")), tmp_path / "a", listen=silent)
    vae = str(tiny_model / "vae")
    with pytest.raises(ModelError, match="give a segmenter's folder"):
        augment(replace(given, judge=vae), tmp_path / "b", listen=silent)
    with pytest.raises(ModelError, match="cannot paint"):
        augment(replace(given, model=vae), tmp_path / "c", listen=silent)
