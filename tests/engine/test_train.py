"""The training job: what its manifest says, and what it refuses."""

import json

import pytest
from PIL import Image

import phantoms
from skiagraph.data.datasets import load_records
from skiagraph.engine.train import data_hashes, train_recipe
from skiagraph.errors import ModelError, SkiagraphError
from skiagraph.progress import silent
from skiagraph.training.recipe import DataConfig, OptimConfig, SegmenterRecipe, load_recipe


@pytest.fixture
def recipe(tmp_path):
    phantoms.dataset(tmp_path)
    return SegmenterRecipe(
        task="segmenter", channels=[4, 8], data=DataConfig(datasets=["phantoms"], root=str(tmp_path), image_size=32),
        optim=OptimConfig(steps=2, batch_size=2, learning_rate=1e-3, precision="float32", tensorboard=False),
    )  # fmt: skip


def test_the_manifest_says_what_the_model_was_made_of(recipe, tmp_path):
    model = train_recipe(recipe, tmp_path / "o", listen=silent)
    manifest = json.loads((tmp_path / "o/manifest.json").read_text())
    assert manifest["data"]["phantoms"]["images"] == len(load_records(["phantoms"], tmp_path, splits=["train"]))
    assert set(manifest["model"]) == {p.name for p in model.glob("*.safetensors")}


def test_data_hashes_change_with_one_pixel_and_not_with_order(recipe, tmp_path):
    records = load_records(["phantoms"], tmp_path, splits=["train"])
    before = data_hashes(records)
    assert data_hashes(records[::-1]) == before
    with Image.open(records[0].path) as picture:
        picture = picture.convert("L")
    picture.putpixel((0, 0), 255 - picture.getpixel((0, 0)))
    picture.save(records[0].path)
    assert data_hashes(records) != before


def test_more_steps_go_on_and_another_recipe_is_refused_unless_it_may_overwrite(recipe, tmp_path):
    out = tmp_path / "o"
    train_recipe(recipe, out, listen=silent)
    longer = recipe.model_copy(update={"optim": recipe.optim.model_copy(update={"steps": 3})})
    train_recipe(longer, out, listen=silent)
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert max(steps) == 3
    other = recipe.model_copy(update={"seed": 5})
    before = (out / "checkpoint/state.json").read_text()
    with pytest.raises(SkiagraphError, match="another run"):
        train_recipe(other, out, listen=silent)
    assert (out / "checkpoint/state.json").read_text() == before
    train_recipe(other, out, overwrite=True, listen=silent)
    assert json.loads((out / "manifest.json").read_text())["config"]["seed"] == 5
    assert json.loads((out / "checkpoint/state.json").read_text())["recipe"]["seed"] == 5


def test_a_model_that_is_not_here_is_named_before_anything_is_written(tmp_path, no_network, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    phantoms.dataset(tmp_path)
    for changes in (("model=lab/none",), ("model=runs/gone/model",)):
        recipe = load_recipe(
            "recipes/fine-tune-24gb.yaml", [*changes, "data.datasets=[phantoms]", f"data.root={tmp_path}"]
        )
        with pytest.raises(ModelError, match=changes[0].removeprefix("model=")):
            train_recipe(recipe, tmp_path / "o", listen=silent)
        assert not (tmp_path / "o").exists()
