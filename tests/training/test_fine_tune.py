"""Fine-tuning of published models: what is trained, what is saved, and that diffusers loads it."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file

import elsewhere
import phantoms
import tiny
from skiagraph.engine.train import train_recipe
from skiagraph.errors import ModelError, RecipeError
from skiagraph.pipelines.published import load_pipeline
from skiagraph.progress import silent
from skiagraph.training.recipe import RECIPES, load_recipe
from skiagraph.training.tasks import make_task

pytest.importorskip("peft")

RECIPE = """
task: fine_tune
model: {model}
data: {{datasets: [phantoms], root: {root}, image_size: 64, fit: squash}}
optim: {{steps: {steps}, batch_size: 2, learning_rate: 1.0e-2, warmup_steps: 1, schedule: constant, precision: float32,
        ema_decay: 0.5, log_every: 1, validate_every: 2, tensorboard: false}}
{more}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return phantoms.dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    tiny.stable_diffusion().save_pretrained(folder / "sd")
    tiny.stable_diffusion_xl().save_pretrained(folder / "xl")
    return folder


def recipe_of(tmp_path, root, model, more="", steps=3):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(model=model, root=root, more=more, steps=steps))
    return load_recipe(path)


@pytest.mark.parametrize(
    ("kind", "cls"),
    [("sd", StableDiffusionPipeline), pytest.param("xl", StableDiffusionXLPipeline, marks=pytest.mark.slow)],
)
def test_a_lora_trains_little_and_diffusers_loads_it(kind, cls, tmp_path, root, published, no_network):
    base = published / kind
    recipe = recipe_of(tmp_path, root, base, "lora: {rank: 2}")
    elsewhere.trains(make_task(recipe, tmp_path / "elsewhere", elsewhere.device()))
    model = train_recipe(recipe, tmp_path / "run", listen=silent)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert any("val_denoising" in row for row in log)
    plain, tuned = load_pipeline(base).denoiser, load_pipeline(model).denoiser
    checkpoint = load_file(tmp_path / "run/checkpoint/model.safetensors")
    assert sum(w.numel() for w in checkpoint.values()) < 0.5 * sum(p.numel() for p in plain.parameters())
    other = cls.from_pretrained(base, **({"safety_checker": None} if kind == "sd" else {}))
    other.load_lora_weights(model / "lora")
    other.fuse_lora()
    other.unload_lora_weights()
    moved = set()
    for name, weight in tuned.state_dict().items():
        torch.testing.assert_close(weight, other.unet.state_dict()[name], atol=2e-3, rtol=2e-3)
        moved |= {name} if not torch.allclose(weight, plain.state_dict()[name], atol=4e-3) else set()
    assert moved
    assert all("attn" in name for name in moved)


@pytest.mark.parametrize("kind", ["sd", pytest.param("xl", marks=pytest.mark.slow)])
def test_text_encoders_are_tuned_along(kind, tmp_path, root, published):
    """Their weights are the published ones and the file's B A, added by hand."""
    recipe = recipe_of(tmp_path, root, published / kind, "lora: {rank: 2}\ntrain_text: true")
    model = train_recipe(recipe, tmp_path / "run", listen=silent)
    lora = load_file(model / "lora/pytorch_lora_weights.safetensors")
    plain, tuned = (load_pipeline(folder).components for folder in (published / kind, model))
    for part in ("text_encoder", "text_encoder_2") if kind == "xl" else ("text_encoder",):
        downs = [name for name in lora if name.startswith(f"{part}.") and ".down." in name]
        assert downs
        assert any(lora[down.replace(".down.", ".up.")].abs().max() > 1e-3 for down in downs)
        for down in downs:
            name = down.removeprefix(f"{part}.").split(".lora")[0].removesuffix(".lora_linear_layer")
            before, after = (parts[part].get_submodule(name).weight for parts in (plain, tuned))
            added = lora[down.replace(".down.", ".up.")] @ lora[down]
            torch.testing.assert_close(after, before + added, atol=2e-3, rtol=2e-3)


@pytest.mark.slow
def test_all_weights_train_and_a_run_goes_on_exactly(tmp_path, root, published):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    more = "lora: null\ntrain_text: true"
    whole = train_recipe(
        recipe_of(tmp_path / "a", root, published / "sd", more, steps=4), tmp_path / "a/run", listen=silent
    )
    for steps in (2, 4):
        part = train_recipe(
            recipe_of(tmp_path / "b", root, published / "sd", more, steps=steps), tmp_path / "b/run", listen=silent
        )
    one, other = (load_pipeline(folder) for folder in (whole, part))
    plain = load_pipeline(published / "sd")
    for name in ("denoiser", "text_encoder"):
        trained, again, before = (p.components[name].state_dict() for p in (one, other, plain))
        assert all(torch.equal(trained[k], again[k]) for k in trained)
        assert any(not torch.allclose(trained[k].float(), before[k].float(), atol=1e-3) for k in trained)
    assert not (whole / "lora").exists()


@pytest.mark.slow
def test_the_loss_falls_on_one_batch(tmp_path, root, published):
    task = make_task(recipe_of(tmp_path, root, published / "sd", "lora: null"), tmp_path / "run")
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        generator = torch.Generator().manual_seed(0)
        loss, _ = task.loss(task.model, 2, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.9 * losses[0]


def test_gradient_checkpointing_changes_no_gradient(tmp_path, root, published):
    def gradients(checkpointing):
        torch.manual_seed(0)
        more = f"lora: null\ngradient_checkpointing: {checkpointing}"
        task = make_task(recipe_of(tmp_path, root, published / "sd", more), tmp_path / "run")
        task.loss(task.model, 2, torch.Generator().manual_seed(1))[0].backward()
        return [p.grad for p in task.model.parameters()]

    for a, b in zip(gradients("true"), gradients("false"), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_recipes_that_do_not_fit_are_named(tmp_path, root, published):
    recipe = recipe_of(tmp_path, root, published / "sd")
    smaller = recipe.model_copy(update={"data": recipe.data.model_copy(update={"image_size": 32})})
    with pytest.raises(RecipeError, match=r"draws 64 pixels; set data\.image_size: 64"):
        make_task(smaller, tmp_path / "run")
    with pytest.raises(ModelError, match="cannot be fine-tuned by this recipe"):
        make_task(recipe.model_copy(update={"model": "cxr-256"}), tmp_path / "run")


@pytest.mark.parametrize("name", ["fine-tune-lora-8gb", "fine-tune-24gb"])
def test_presets_train_a_tiny_model_of_the_published_layout(name, tmp_path, root, published):
    recipe = load_recipe(
        RECIPES / f"{name}.yaml",
        [f"model={published / 'sd'}", "data.datasets=[phantoms]", f"data.root={root}", "data.image_size=64",
         "optim.steps=1", "optim.gradient_accumulation=2", "optim.precision=float32", "optim.tensorboard=false"],
    )  # fmt: skip
    assert load_pipeline(train_recipe(recipe, tmp_path / "run", listen=silent))
