"""Data cards and Croissant metadata of synthetic sets."""

import json

import pytest
import yaml

from skiagraph.engine.card import card_names, write_card
from skiagraph.engine.exchange import export_set
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.progress import silent


@pytest.fixture(scope="module")
def generated(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "made"
    config = GenerateConfig(reports=("Cardiomegaly.", "Edema."), model=str(tiny_model), steps=2)
    return folder, generate(config, folder, listen=silent)


def front(text):
    return yaml.safe_load(text.split("---")[1])


def test_a_generated_set_has_a_card(generated):
    folder, manifest = generated
    text = (folder / "README.md").read_text()
    assert "2 pictures" in text
    assert "All of them are synthetic" in text
    assert "Not for clinical use." in text
    assert all(digest in text for digest in manifest["weights"].values())
    assert "- Cardiomegaly." in text
    assert "licence of its training data; find out" in text
    assert {"synthetic", "chest-x-ray"} <= set(front(text)["tags"])
    assert front(text)["size_categories"] == ["n<1K"]


def test_croissant_lists_the_pictures(generated):
    folder, manifest = generated
    content = json.loads((folder / "croissant.json").read_text())
    assert content["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert "synthetic" in content["description"]
    assert content["distribution"][0]["contentUrl"] == "manifest.json"
    mlcroissant = pytest.importorskip("mlcroissant")
    loaded = mlcroissant.Dataset(str(folder / "croissant.json"))
    assert not loaded.metadata.ctx.issues.errors
    rows = list(loaded.records("pictures"))
    assert [row["pictures/file"].decode() for row in rows] == [row["file"] for row in manifest["images"]]


def test_an_export_carries_what_made_its_source(generated, tmp_path):
    folder, manifest = generated
    export_set(str(folder), "csv", tmp_path / "o", listen=silent)
    text = (tmp_path / "o/README.md").read_text()
    assert "# o\n" in text
    assert all(digest in text for digest in manifest["weights"].values())
    assert "- Edema." in text
    content = json.loads((tmp_path / "o/croissant.json").read_text())
    assert {field["name"] for field in content["recordSet"][0]["field"]} >= {"file", "patient", "split", "synthetic"}
    mlcroissant = pytest.importorskip("mlcroissant")
    loaded = mlcroissant.Dataset(str(tmp_path / "o/croissant.json"))
    assert not loaded.metadata.ctx.issues.errors
    assert len(list(loaded.records("pictures"))) == 2


def test_the_licence_is_the_model_cards(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    manifest = {"verb": "generate", "config": {"model": "cxr-256"}, "images": [{"file": "a.png", "prompt": "Edema."}]}
    write_card(tmp_path, manifest)
    text = (tmp_path / "README.md").read_text()
    assert "Weights: apache-2.0" in text
    assert "Kermany (children, CC BY 4.0)" in text


def test_painted_pictures_are_of_real_patients(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    write_card(tmp_path, {"verb": "augment", "config": {"model": "cxr-256"}, "images": [{"file": "a.png"}]})
    text = (tmp_path / "README.md").read_text()
    assert "pictures of real patients, painted inside a mask" in text
    assert "For real pictures that of their data set holds" in text


def test_a_readme_of_somebody_else_stays(tmp_path):
    (tmp_path / "README.md").write_text("Mine.")
    (tmp_path / "manifest.json").write_text("{}")
    write_card(tmp_path, {"verb": "generate", "config": {}, "images": []})
    assert (tmp_path / "README.md").read_text() == "Mine."
    assert card_names(tmp_path) == ("croissant.json",), "nor does another run with --overwrite remove it"
