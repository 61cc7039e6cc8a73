from pathlib import Path

import pytest

from skiagraph.errors import RecipeError
from skiagraph.training.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
GOOD = "task: autoencoder\ndata: {datasets: [nih_chestxray14]}\noptim: {steps: 1, batch_size: 1, learning_rate: 0.1}\n"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_in_the_repository_validate(path):
    assert load_recipe(path).optim.steps > 0


def test_there_are_recipes():
    assert len(RECIPES) >= 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [", "not valid YAML"),
        ("task: sorcery", "sorcery"),
        (GOOD + "learning: 3\n", r"autoencoder\.learning: Extra inputs"),
        (GOOD.replace("steps: 1", "steps: 0"), r"optim\.steps: .*greater than or equal to 1"),
        (GOOD.replace("learning_rate: 0.1", "learning_rate: fast"), r"optim\.learning_rate"),
        (
            GOOD.replace("autoencoder", "segmenter") + "mirror: true\nclasses: [heart, Left lung]\n",
            "mirror would put Left lung on the wrong side",
        ),
        ("", "does not validate"),
    ],
)
def test_faults_are_named(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.yaml cannot be read"):
        load_recipe(tmp_path / "nowhere.yaml")
