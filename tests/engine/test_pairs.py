"""The pairs job: what is written, resumed and refused."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import phantoms
import skiagraph.engine.pairs as job
import tiny
from skiagraph.data.datasets import load_records
from skiagraph.domains.chest import CHEST
from skiagraph.engine.job import Run
from skiagraph.engine.pairs import PairsConfig, make_pairs
from skiagraph.errors import ModelError, ReportError
from skiagraph.pipelines.pairs import ImagesWithMaps
from skiagraph.progress import silent


def config(model, **changes):
    values = {
        "prompts": ("Cardiomegaly.", "Large right pleural effusion."), "count": 16, "model": str(model), "steps": 2,
        "affinity_steps": 60, "filter_steps": 2, "keep": 0.5, "own_networks": True, **changes,
    }  # fmt: skip
    return PairsConfig(**values)


def drawn(pipeline, prompts, classes, *, seeds, **settings):
    """Phantoms with blurred lungs for maps, in place of a tiny model's, which mean nothing; every fifth map is flat."""
    images, heats = [], []
    for seed in seeds:
        image, mask = phantoms.thorax(np.random.default_rng(seed))
        heat = ndimage.gaussian_filter((mask > 0).astype(np.float32), 2 + seed % 3)
        parts = [heat / heat.max() * (seed % 5 > 0)] if len(classes) == 1 else [_half(heat, k) for k in range(2)]
        images.append(image / 255)
        heats.append(parts)
    return ImagesWithMaps(np.array(images), np.array(heats), list(prompts))


def _half(heat, side):
    half = heat.copy()
    half[:, 32:] *= side
    half[:, :32] *= 1 - side
    return half / half.max()


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    output = tmp_path_factory.mktemp("pairs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "sample_with_maps", drawn)
        return output, make_pairs(config(tiny_model), output, listen=silent)


def test_kept_pairs_are_a_data_set_and_dropped_ones_say_why(whole):
    output, manifest = whole
    rows = manifest["pairs"]
    assert manifest == json.loads((output / "manifest.json").read_text())
    assert len(rows) == 16
    assert {row["report"] for row in rows} == {"Cardiomegaly.", "Large right pleural effusion."}
    kept = [row for row in rows if row["dropped"] is None]
    assert len(kept) == 6
    assert all("constant" in row["dropped"] for row in rows if row["seed"] % 5 == 0)
    assert all("not among the best" in row["dropped"] for row in rows if row["seed"] % 5 and row not in kept)
    records = load_records([output.name], output.parent)
    assert [r.path.stem for r in records] == [row["name"] for row in kept]
    for record in records:
        mask = np.asarray(Image.open(record.mask))
        assert set(np.unique(mask)) == {0, 255}
        assert mask.shape == np.asarray(Image.open(record.path)).shape
        assert "Synthetic" in Image.open(record.path).text
        assert (output / "overlays" / record.path.name).is_file()
    assert (output / "contact-sheet.png").is_file()
    with open(output / "metadata.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(kept)


@pytest.mark.parametrize(
    "stage",
    ["sample_with_maps", *(pytest.param(later, marks=pytest.mark.slow) for later in ("confident_labels", "refine"))],
)
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(whole, tiny_model, tmp_path, monkeypatch, stage):
    monkeypatch.setattr(job, "sample_with_maps", drawn)
    original, calls = getattr(job, stage), []

    def cut(*args, **kwargs):
        calls.append(stage)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(job, stage, cut)
    output = tmp_path / "o"
    with pytest.raises(KeyboardInterrupt):
        make_pairs(config(tiny_model), output, listen=silent)
    monkeypatch.setattr(job, stage, original)
    resumed = make_pairs(config(tiny_model), output, listen=silent)
    assert resumed["pairs"] == whole[1]["pairs"]
    for row in resumed["pairs"]:
        for kind in ("images", "masks"):
            made, expected = (folder / kind / f"{row['name']}.png" for folder in (output, whole[0]))
            assert made.exists() == expected.exists()
            assert not made.exists() or np.array_equal(Image.open(made), Image.open(expected))


def test_several_classes_are_stored_as_labels(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "sample_with_maps", drawn)
    made = make_pairs(config(tiny_model, count=3, classes=("right lung", "left lung")), tmp_path, listen=silent)
    kept = [row for row in made["pairs"] if row["dropped"] is None]
    assert kept
    for row in kept:
        labels = np.asarray(Image.open(tmp_path / "masks" / f"{row['name']}.png"))
        assert set(np.unique(labels[:, :24])) == {0, 1}
        assert set(np.unique(labels[:, 40:])) == {0, 2}
        assert "agreement" not in row, "three pairs are too few to judge one another"


@pytest.mark.parametrize("classes", [("lung",), ("right lung", "left lung")])
def test_a_small_run_trains_nothing(whole, tiny_model, tmp_path, monkeypatch, classes):
    monkeypatch.setattr(job, "sample_with_maps", drawn)
    own = replace(CHEST, affinity=str(whole[0] / "work/affinity/model"))
    monkeypatch.setattr(job, "model_domain", lambda folder: own)  # the shipped one has seen no phantoms
    monkeypatch.setattr(job, "train", None)
    rows = make_pairs(config(tiny_model, classes=classes, own_networks=None), tmp_path, listen=silent)["pairs"]
    assert not (tmp_path / "work").exists()
    judged = [row for row in rows if "agreement" in row]
    assert len(judged) >= 12
    assert sum(row["dropped"] is None for row in judged) == round(len(judged) / 2)


def test_which_runs_train_their_own_networks(tiny_model, tmp_path):
    def own(**changes):
        return job._Stages(
            config(tiny_model, **{"own_networks": None, **changes}), Run(tmp_path, {}, silent)
        ).own_networks

    assert not own(count=99)
    assert own(count=100)
    assert own(count=8, classes=("heart",))
    assert own(count=8, own_networks=True)
    assert not own(count=500, own_networks=False)


def test_a_stable_diffusion_folder_makes_pairs(tmp_path):
    """A tiny one's random pictures and maps: all stages run, and every row says what became of it."""
    tiny.stable_diffusion().save_pretrained(tmp_path / "model")
    prompts = ("Cardiomegaly, with a large heart.",)
    given = config(tmp_path / "model", prompts=prompts, classes=("heart",), count=4, steps=4, own_networks=True)
    rows = make_pairs(given, tmp_path / "out", listen=silent)["pairs"]
    assert len(rows) == 4
    assert {row["prompt"] for row in rows} == {prompts[0]}
    assert len(list((tmp_path / "out/images").glob("*.png"))) == 4
    masks = {path.stem for path in (tmp_path / "out/masks").glob("*.png")}
    assert {row["name"] for row in rows if row["dropped"] is None} <= masks


def test_unknown_classes_and_empty_prompts_are_refused(tiny_model, tmp_path):
    with pytest.raises(ModelError, match="'spleen' is not in the prompt"):
        make_pairs(config(tiny_model, classes=("spleen",)), tmp_path / "a", listen=silent)
    with pytest.raises(ReportError, match="no prompts"):
        make_pairs(config(tiny_model, prompts=()), tmp_path / "b", listen=silent)
