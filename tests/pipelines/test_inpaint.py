"""Painting inside masks: what must not change, and what each part of the sampling does."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

import phantoms
import tiny
from skiagraph.errors import MaskError, ModelError, ReportError
from skiagraph.pipelines.inpaint import (
    InpaintSettings,
    MaskedSampling,
    inpaint,
    load_painter,
    mask_area,
    noised_again,
)

FAST = {"steps": 4, "keep_detail": 0.0}


@pytest.fixture(scope="module")
def case():
    pixels, mask = phantoms.thorax(np.random.default_rng(0), side=tiny.SIDE)
    return pixels.astype(np.float32) / 255, mask > 0


@pytest.fixture(scope="module")
def painter():
    return MaskedSampling(tiny.pipeline())


def paint(painter, case, prompt="right effusion", negative="", seed=0, **settings):
    return inpaint(
        painter, *case, prompt, negative=negative, seed=seed, settings=InpaintSettings(**{**FAST, **settings})
    )


def test_only_the_inside_changes(painter, case):
    image, mask = case
    made = paint(painter, case)
    assert np.array_equal(made[~mask], image[~mask])
    assert np.abs(made - image)[mask].max() > 0.01
    assert made.dtype == np.float32
    assert 0 <= made.min() <= made.max() <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"prompt": "cardiomegaly"}, {"negative": "cardiomegaly"}, {"strength": 1.0}, {"resamples": 3},
        {"guidance": 1.0}, {"feather": 1.0}, {"keep_detail": 4.0},
    ],
)  # fmt: skip
def test_everything_that_can_be_set_shows(painter, case, change):
    first, again, other = paint(painter, case), paint(painter, case), paint(painter, case, **change)
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_latents_outside_are_the_images_own_at_every_step(case):
    """What the denoiser is shown outside is the image noised to the step, and the last one the image itself."""
    pipeline = tiny.pipeline()
    seen, whole = [], pipeline.predict_guided

    def spy(latents, timestep, *rest):
        seen.append((timestep, latents))
        return whole(latents, timestep, *rest)

    pipeline.predict_guided, pipeline.decode = spy, lambda latents: latents.numpy()
    mask = np.zeros((64, 64), bool)
    mask[16:40, 16:40] = True
    settings = InpaintSettings(steps=50, strength=1.0)
    change = MaskedSampling(pipeline).change(case[0], mask, "effusion", "", 0, settings)
    outside = ~(mask_area(torch.from_numpy(mask)[None, None], 8)[0, 0] > 0)
    assert not change[:, outside.numpy()].any()
    alphas = DDIMScheduler.from_config(pipeline.scheduler.config).alphas_cumprod
    original = pipeline.encode(case[0][None])
    for timestep, latents in seen:
        rest = (latents - alphas[timestep].sqrt() * original)[0, :, outside]
        assert float(rest.std()) == pytest.approx(float((1 - alphas[timestep]).sqrt()), rel=0.35)


def test_going_back_to_a_step_adds_exactly_the_noise_that_is_missing():
    scheduler, noise = DDIMScheduler(num_train_timesteps=100), torch.randn(1, 4, 8, 8)
    clean = torch.randn(1, 4, 8, 8)
    expected = scheduler.add_noise(clean, noise, torch.tensor([40]))
    torch.testing.assert_close(noised_again(clean, scheduler, -1, 40, noise), expected)
    still = torch.zeros_like(clean)
    by_way = noised_again(noised_again(clean, scheduler, -1, 20, still), scheduler, 20, 40, still)
    torch.testing.assert_close(by_way, scheduler.alphas_cumprod[40].sqrt() * clean)


def test_mask_area_is_the_share_of_each_latent_pixel():
    mask = np.random.default_rng(0).random((64, 64)) < 0.3
    found = mask_area(torch.from_numpy(mask)[None, None], 8)[0, 0].numpy()
    expected = [[mask[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].mean() for c in range(8)] for r in range(8)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_model_trained_to_paint_sees_the_mask_and_not_what_is_under_it(case):
    pipeline = tiny.pipeline()
    pipeline.register_modules(denoiser=tiny.denoiser(in_channels=9, out_channels=4))
    image, mask = case
    shown, whole = [], pipeline.predict_guided

    def spy(latents, timestep, text, scale, beside):
        shown.append(beside)
        return whole(latents, timestep, text, scale, beside)

    pipeline.predict_guided = spy
    painter = MaskedSampling(pipeline)
    made = paint(painter, case)
    assert np.array_equal(made[~mask], image[~mask])
    paint(painter, (np.where(mask, 1 - image, image).astype(np.float32), mask))
    torch.testing.assert_close(shown[0], shown[-1])
    torch.testing.assert_close(shown[0][:, :1], mask_area(torch.from_numpy(mask)[None, None], 8))
    assert painter.keep_detail == 16


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_diffusers_folders_paint_grey_and_colour(xl, colour, tmp_path, no_network):
    tiny.inpainting_pipeline(xl=xl).save_pretrained(tmp_path / "model")
    painter = load_painter(tmp_path / "model")
    assert painter.side == tiny.SIDE
    pixels, mask = (phantoms.polyp if colour else phantoms.thorax)(np.random.default_rng(0), side=48)
    image, mask = pixels[:40].astype(np.float32) / 255, mask[:40] > 0
    first, again, other = (paint(painter, (image, mask), seed=s, strength=1.0) for s in (0, 0, 1))
    assert first.shape == image.shape
    assert np.array_equal(first[~mask], image[~mask])
    assert np.array_equal(first, again)
    assert np.abs(first - image)[mask].mean() > 0.01
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strength": 0.0}, ModelError, "strength 0.0"),
        ({"resamples": 0}, ModelError, "resamples 0"),
        ({"prompt": " "}, ReportError, "empty"),
    ],
)
def test_what_does_not_fit_is_named(painter, case, arguments, error, message):
    with pytest.raises(error, match=message):
        paint(painter, case, **arguments)


def test_masks_and_colours_that_do_not_fit_are_named(painter, case):
    image, mask = case
    with pytest.raises(MaskError, match="not be empty"):
        paint(painter, (image, np.zeros_like(mask)))
    with pytest.raises(MaskError, match="image's size"):
        paint(painter, (image, mask[:32]))
    with pytest.raises(ModelError, match="grey images only"):
        paint(painter, (np.repeat(image[..., None], 3, axis=-1), mask))


def test_models_that_cannot_paint_are_refused(tmp_path):
    tiny.autoencoder().save_pretrained(tmp_path / "vae")
    with pytest.raises(ModelError, match="cannot paint inside masks"):
        load_painter(tmp_path / "vae")


def test_a_tokenizer_without_a_length_is_named(tmp_path):
    tiny.inpainting_pipeline().save_pretrained(tmp_path / "model")
    path = tmp_path / "model/tokenizer/tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["model_max_length"]
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"no length; set model_max_length in its tokenizer_config\.json"):
        load_painter(tmp_path / "model")
