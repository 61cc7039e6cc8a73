"""Images with maps from the tiny U-ViT pipeline and from a tiny Stable Diffusion pipeline."""

import numpy as np
import pytest
from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

import tiny
from skiagraph.errors import ModelError
from skiagraph.pipelines.pairs import sample_with_maps

PROMPTS = ["Cardiomegaly.", "Large right pleural effusion."]


@pytest.mark.parametrize("make", [tiny.pipeline, tiny.stable_diffusion])
def test_images_and_maps_of_a_class_and_of_a_word(make):
    pipeline = make()
    sampled = sample_with_maps(pipeline, PROMPTS, ["lung", "heart"], seeds=[0, 1], steps=2)
    size = sampled.images.shape[1:]
    assert sampled.images.shape == (2, *size)
    assert sampled.heats.shape == (2, 2, *size)
    assert sampled.heats.min() >= 0
    assert sampled.heats.max() == pytest.approx(1, abs=1e-3)
    assert sampled.prompts[0] == "right lung. left lung. heart. Cardiomegaly."
    again = sample_with_maps(pipeline, PROMPTS[:1], ["lung", "heart"], seeds=[0], steps=2)
    np.testing.assert_allclose(again.images[0], sampled.images[0], atol=1e-4)
    np.testing.assert_allclose(again.heats[0], sampled.heats[0], atol=1e-3)
    own_word = sample_with_maps(pipeline, ["Large effusion."], ["effusion"], seeds=[0], steps=1, noise=(0, 1))
    assert own_word.prompts == ["Large effusion."]


def test_maps_are_averaged_over_the_chosen_noise_levels():
    pipeline = tiny.pipeline()
    heats = {
        noise: sample_with_maps(pipeline, PROMPTS[:1], ["lung"], seeds=[0], steps=4, noise=noise).heats
        for noise in ((0, 1), (0.2, 0.3), (0.6, 0.8))
    }
    assert np.abs(heats[0, 1] - heats[0.2, 0.3]).max() > 1e-3
    assert np.abs(heats[0.6, 0.8] - heats[0.2, 0.3]).max() > 1e-3
    with pytest.raises(ModelError, match="chosen noise levels"):
        sample_with_maps(pipeline, PROMPTS[:1], ["lung"], seeds=[0], steps=1, noise=(0.3, 0.4))


def test_words_that_are_missing_or_cut_off_are_named():
    pipeline = tiny.pipeline()
    with pytest.raises(ModelError, match="'spleen' is not in the prompt"):
        sample_with_maps(pipeline, PROMPTS[:1], ["spleen"], seeds=[0])
    with pytest.raises(ModelError, match="cut off"):
        sample_with_maps(pipeline, ["cardiomegaly " * 30 + "effusion"], ["effusion"], seeds=[0])


def test_pipelines_without_a_readable_denoiser_are_refused():
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )  # fmt: skip
    pipeline = DDPMPipeline(unet, DDIMScheduler())
    with pytest.raises(ModelError, match="does not make images from text"):
        sample_with_maps(pipeline, PROMPTS[:1], ["lung"], seeds=[0])
