"""The pipeline on tiny random components: what diffusers users expect of one."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

import tiny
from skiagraph.errors import ModelError, ReportError
from skiagraph.pipelines.text_to_image import TextToImagePipeline

PROMPTS = ["Small left pleural effusion.", "Cardiomegaly."]


@pytest.fixture(scope="module")
def pipeline():
    return tiny.pipeline()


def test_images_have_shape_range_and_type(pipeline):
    result = pipeline(PROMPTS, num_inference_steps=3, seeds=[0, 1])
    assert result.images.shape == (2, tiny.SIDE, tiny.SIDE)
    assert result.images.dtype == np.float32
    assert 0 <= result.images.min() < result.images.max() <= 1
    assert result.prompts == PROMPTS
    assert result.truncated == [False, False]


def test_an_image_depends_on_its_seed_and_not_on_its_batch(pipeline):
    both = pipeline(PROMPTS, num_inference_steps=3, seeds=[5, 6]).images
    alone = pipeline(PROMPTS[1], num_inference_steps=3, seeds=[6]).images
    np.testing.assert_allclose(both[1], alone[0], atol=1e-4)
    other = pipeline(PROMPTS[1], num_inference_steps=3, seeds=[7]).images
    assert np.abs(other - alone).max() > 1e-3


@pytest.mark.parametrize(
    "scheduler",
    [
        EulerAncestralDiscreteScheduler(num_train_timesteps=100),
        DPMSolverMultistepScheduler(num_train_timesteps=100, algorithm_type="sde-dpmsolver++"),
    ],
)
def test_noise_that_a_sampler_adds_comes_from_the_images_own_seed(scheduler):
    pipeline = tiny.pipeline(scheduler=scheduler)
    both = pipeline(PROMPTS, num_inference_steps=3, seeds=[5, 6]).images
    alone = pipeline(PROMPTS[1], num_inference_steps=3, seeds=[6]).images
    np.testing.assert_allclose(both[1], alone[0], atol=1e-3)


def test_several_images_of_a_prompt_are_adjacent(pipeline):
    result = pipeline(PROMPTS, num_images_per_prompt=2, num_inference_steps=2, seeds=[0, 1, 2, 3])
    assert result.prompts == [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    single = pipeline(PROMPTS[1], num_inference_steps=2, seeds=[2]).images[0]
    np.testing.assert_allclose(result.images[2], single, atol=1e-4)


def test_guidance_is_the_usual_convention(pipeline):
    """One step from the same noise: the prediction is linear in w, and 1 is the conditional one alone."""
    latents = torch.randn(1, *tiny.LATENT, generator=torch.Generator().manual_seed(0))

    def one_step(scale):
        arguments = {"num_inference_steps": 1, "latents": latents, "output_type": "latent"}
        return pipeline(PROMPTS[0], guidance_scale=scale, **arguments).images

    free, plain, strong = one_step(0.0), one_step(1.0), one_step(3.0)
    torch.testing.assert_close(strong, free + 3 * (plain - free), rtol=1e-3, atol=1e-3)


def test_a_negative_prompt_takes_the_place_of_the_empty_one(pipeline):
    arguments = {"num_inference_steps": 2, "seeds": [0], "guidance_scale": 3.0}
    plain = pipeline(PROMPTS[0], **arguments).images
    led_away = pipeline(PROMPTS[0], negative_prompt="Cardiomegaly.", **arguments).images
    assert np.abs(plain - led_away).max() > 1e-4
    same = pipeline(PROMPTS[0], negative_prompt=PROMPTS[0], **arguments).images
    unguided = pipeline(PROMPTS[0], num_inference_steps=2, seeds=[0], guidance_scale=1.0).images
    np.testing.assert_allclose(same, unguided, atol=1e-4)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler, HeunDiscreteScheduler, PNDMScheduler, UniPCMultistepScheduler,
    ],
)  # fmt: skip
def test_any_scheduler_of_diffusers_works(scheduler):
    pipeline = tiny.pipeline(scheduler=scheduler(num_train_timesteps=100))
    images = pipeline(PROMPTS, num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images
    assert np.isfinite(images).all()


def test_callback_sees_and_may_replace_latents(pipeline):
    seen = []

    def callback(pipe, index, timestep, values):
        seen.append((index, int(timestep)))
        return {"latents": torch.zeros_like(values["latents"])}

    arguments = {"num_inference_steps": 3, "seeds": [0], "output_type": "latent"}
    result = pipeline(PROMPTS[0], callback_on_step_end=callback, **arguments)
    assert [index for index, _ in seen] == [0, 1, 2]
    assert not result.images.any()


def test_saved_and_loaded_pipelines_agree(pipeline, tmp_path, no_network):
    pipeline.save_pretrained(tmp_path / "m")
    loaded = TextToImagePipeline.load(tmp_path / "m")
    loaded.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": 2, "seeds": [3]}
    np.testing.assert_allclose(
        loaded(PROMPTS[0], **arguments).images, pipeline(PROMPTS[0], **arguments).images, atol=1e-5
    )
    assert not list((tmp_path / "m").rglob("*.bin"))


def test_diffusers_own_way_of_loading_makes_nothing_up(tiny_model, capfd):
    pipeline = TextToImagePipeline.from_pretrained(tiny_model, torch_dtype=torch.bfloat16)
    assert pipeline.text_encoder.pooler is None
    assert {pipeline.text_encoder.dtype, pipeline.denoiser.dtype} == {torch.bfloat16}
    assert "MISSING" not in "".join(capfd.readouterr())


def test_colour_autoencoders_are_averaged_to_grey():
    pipeline = tiny.pipeline(vae=tiny.colour_autoencoder())
    assert pipeline(PROMPTS[0], num_inference_steps=2, seeds=[0]).images.ndim == 3


def test_half_precision_networks_sample_close_to_full(pipeline):
    arguments = {"num_inference_steps": 4, "seeds": [0]}
    full = pipeline(PROMPTS[0], **arguments).images
    half = tiny.pipeline().to(dtype=torch.bfloat16)(PROMPTS[0], **arguments).images
    assert half.dtype == np.float32
    assert np.abs(full - half).mean() < 0.05


def test_finding_style_states_a_report_in_the_models_words():
    pipeline = tiny.pipeline(prompt_style="findings")
    text = "PA view of a 54-year-old man. No pneumothorax. Small left pleural effusion."
    assert pipeline.in_model_words(text) == ["left pleural effusion. PA view. adult. male"]
    with pytest.raises(ReportError, match="no finding"):
        pipeline("Hello there.")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt": ""}, ReportError, "empty report"),
        ({"prompt": []}, ReportError, "empty report"),
        ({"prompt": PROMPTS, "seeds": [1]}, ModelError, "1 seeds for 2 images"),
        ({"prompt": PROMPTS, "seeds": [0, 2**64]}, ModelError, "seed 18446744073709551616 is out of range"),
        ({"prompt": PROMPTS, "negative_prompt": ["a", "b", "c"]}, ModelError, "3 negative prompts for 2 prompts"),
        ({"prompt": PROMPTS, "latents": torch.zeros(1, 4, 8, 8)}, ModelError, "latents are"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(pipeline, arguments, error, message):
    with pytest.raises(error, match=message):
        pipeline(**arguments)


def test_a_prompt_that_is_cut_off_says_so(pipeline):
    assert pipeline("effusion " * 60, num_inference_steps=1, seeds=[0]).truncated == [True]


@pytest.mark.parametrize("vae", [tiny.autoencoder, tiny.colour_autoencoder])
def test_images_are_encoded_to_the_latents_that_are_decoded(vae):
    pipeline = tiny.pipeline(vae=vae())
    images = np.random.default_rng(0).random((9, tiny.SIDE, tiny.SIDE), np.float32)
    latents = pipeline.encode(images)
    assert len(latents) == 9
    config = pipeline.vae.config
    pixels = torch.from_numpy(images[:1, None]).expand(-1, config.in_channels, -1, -1) * 2 - 1
    by_hand = pipeline.vae.encode(pixels).latent_dist.mode() - (config.get("shift_factor") or 0)
    torch.testing.assert_close(latents[:1], by_hand * config.scaling_factor)


def test_a_saved_pipeline_does_not_say_where_its_parts_were(tiny_model, tmp_path):
    TextToImagePipeline.load(tiny_model).save_pretrained(tmp_path / "m")
    for path in (tmp_path / "m").rglob("*.json"):
        assert str(tiny_model) not in path.read_text()
    assert TextToImagePipeline.load(tmp_path / "m").image_side == TextToImagePipeline.load(tiny_model).image_side


def test_models_and_devices_that_do_not_fit_are_refused_on_loading(tiny_model):
    with pytest.raises(ModelError, match="cannot make images from text"):
        TextToImagePipeline.load("lung-segmenter")
    with pytest.raises(ModelError, match="no device 'banana'"):
        TextToImagePipeline.load(tiny_model, device="banana")


def test_output_types_are_those_of_diffusers_and_hold_one_picture():
    pipeline = tiny.pipeline()
    given = {"num_inference_steps": 2, "seeds": [5, 6]}
    plain = pipeline(["Cardiomegaly.", "Effusion."], **given).images
    tensor = pipeline(["Cardiomegaly.", "Effusion."], **given, output_type="pt").images
    pictures = pipeline(["Cardiomegaly.", "Effusion."], **given, output_type="pil").images
    assert tensor.shape == (2, 1, *plain.shape[1:])
    np.testing.assert_allclose(tensor[:, 0].numpy(), plain, atol=1e-6)
    assert [p.mode for p in pictures] == ["L", "L"]
    np.testing.assert_allclose(np.asarray(pictures[1]) / 255, plain[1], atol=0.003)
    images, prompts, truncated = pipeline("Cardiomegaly.", num_inference_steps=1, seeds=[0], return_dict=False)
    assert (len(images), prompts, truncated) == (1, ["Cardiomegaly."], [False])
    with pytest.raises(ModelError, match="output_type 'jpeg' is unknown; known: np, pt, pil, latent"):
        pipeline("Cardiomegaly.", output_type="jpeg")


def test_a_folder_loads_as_diffusers_loads_one_and_prints_nothing(tmp_path, capfd):
    tiny.pipeline().save_pretrained(tmp_path)
    capfd.readouterr()
    pipeline = TextToImagePipeline.load(tmp_path)
    assert "MISSING" not in "".join(capfd.readouterr())
    again = TextToImagePipeline.from_pretrained(tmp_path)
    a, b = (p("Cardiomegaly.", num_inference_steps=2, seeds=[0]).images for p in (pipeline, again))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_an_enlarged_picture_has_twice_the_side_and_its_own_grain(tmp_path):
    plain = tiny.pipeline()
    plain.register_modules(enlarger=tiny.enlarger())
    plain.save_pretrained(tmp_path / "model")
    pipeline = TextToImagePipeline.load(tmp_path / "model")
    small, large = (pipeline(PROMPTS, num_inference_steps=2, seeds=[3, 4], enlarge=e).images for e in (False, True))
    assert large.shape == (2, 2 * tiny.SIDE, 2 * tiny.SIDE)
    assert small.shape[1] == tiny.SIDE == pipeline.image_side
    alone = pipeline(PROMPTS[1], num_inference_steps=2, seeds=[4], enlarge=True).images
    np.testing.assert_allclose(alone[0], large[1], atol=1e-4)


def test_a_model_without_an_enlarger_says_so_before_it_draws(pipeline):
    with pytest.raises(ModelError, match="makes pictures of 64 px and has no enlarger"):
        pipeline(PROMPTS, enlarge=True)
