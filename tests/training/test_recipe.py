import pytest

from skiagraph.errors import RecipeError
from skiagraph.models.cost import uvit_macs
from skiagraph.models.uvit import PRESETS
from skiagraph.training.recipe import RECIPES as FOLDER
from skiagraph.training.recipe import load_recipe

RECIPES = sorted(FOLDER.glob("*.yaml"))
GOOD = "task: autoencoder\ndata: {datasets: [nih_chestxray14]}\noptim: {steps: 1, batch_size: 1, learning_rate: 0.1}\n"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_in_the_repository_validate(path):
    assert load_recipe(path).optim.steps > 0


def test_chest_diffusion_is_as_published():
    """arXiv 2407.00752, and arXiv 2209.12152 for what it does not say: U-ViT's optimiser for text to image."""
    published = load_recipe("recipes/chest-diffusion.yaml")
    optim = published.optim
    assert optim.batch_size * optim.gradient_accumulation == 256
    assert (optim.optimizer, optim.learning_rate, optim.weight_decay, optim.betas) == ("adamw", 2e-4, 0.03, (0.9, 0.9))
    assert (optim.warmup_steps, optim.schedule, optim.ema_decay) == (5000, "constant", 0.9999)
    assert (published.prediction_type, published.sampler, published.unconditional) == ("epsilon", "dpmsolver++", 0.1)
    assert published.grounding_weight == 0
    captions = published.captions
    assert (captions.segmenter, captions.moved_share, captions.crop_share) == (None, 0, 0)
    assert not published.sampling
    macs = uvit_macs(**{"hidden": 1024, "depth": 20}, latent=32, patch=2, text_tokens=published.text.max_length)
    assert PRESETS[published.denoiser.preset] == {**PRESETS["L/2"], "hidden_size": 1024, "depth": 20}
    assert abs(macs / 1e9 / 118.918 - 1) < 0.03


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


def test_fields_are_changed_by_name(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    changed = load_recipe(path, ["optim.steps=20", "data.datasets=[montgomery, shenzhen]", "seed=3"])
    assert (changed.optim.steps, changed.data.datasets, changed.seed) == (20, ["montgomery", "shenzhen"], 3)
    assert changed.optim.batch_size == load_recipe(path).optim.batch_size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.step=20", r"optim\.step: Extra inputs"),
        ("optim.steps", "changes no field"),
        ("=3", "changes no field"),
        ("task.deeper=3", "changes no field"),
        ("optim.steps=[", "not valid YAML"),
    ],
)
def test_changes_of_no_field_are_named(tmp_path, change, message):
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, [change])


def test_a_file_of_ones_own_comes_before_the_package_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/sdseg.yaml").task == "latent_segmenter"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/sdseg.yaml").write_text(GOOD)
    assert load_recipe("recipes/sdseg.yaml").task == "autoencoder"
    with pytest.raises(RecipeError, match="those that come with skiagraph: recipes/chest-diffusion"):
        load_recipe("recipes/none.yaml")
