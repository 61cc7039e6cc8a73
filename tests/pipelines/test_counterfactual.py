"""Edits with the tiny pipeline: what changes, what must not, and each part of the regulation."""

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

import phantoms
import tiny
from skiagraph.attention.steer import Regulation, regulated
from skiagraph.errors import MaskError, ModelError
from skiagraph.pipelines.counterfactual import EditSettings, edit_image

FAST = {"steps": 4}


@pytest.fixture(scope="module")
def case():
    pixels, mask = phantoms.thorax(np.random.default_rng(0), side=tiny.SIDE)
    roi = np.zeros(mask.shape, bool)
    roi[32:56, 8:30] = True
    return tiny.pipeline(), pixels.astype(np.float32) / 255, roi, mask > 0


def edit(case, seed=0, roi=None, anatomy=None, words=("consolidation",), **settings):
    pipeline, image, own_roi, own_anatomy = case
    return edit_image(
        pipeline, image, target="right consolidation. effusion", source="right effusion", words=list(words),
        roi=own_roi if roi is None else roi, anatomy=own_anatomy if anatomy is None else anatomy,
        settings=EditSettings(**{**FAST, **settings}), seed=seed,
    )  # fmt: skip


@pytest.mark.parametrize("start", ["inversion", "noise"])
def test_only_the_region_changes(case, start):
    result = edit(case, start=start)
    _, image, roi, _ = case
    assert np.array_equal(result.image[~roi], image[~roi])
    assert np.abs(result.image - image)[roi].max() > 0.01
    assert result.image.dtype == np.float32
    assert 0 <= result.image.min() <= result.image.max() <= 1
    assert len(result.scores) == 1
    assert 0 < result.scores[0] < 1


def test_any_schedulers_configuration_can_be_inverted(case):
    """The shipped model's names a spacing of steps that diffusers' inverse scheduler refuses."""
    pipeline = tiny.pipeline(
        scheduler=DPMSolverMultistepScheduler(num_train_timesteps=100, timestep_spacing="linspace")
    )
    result = edit((pipeline, *case[1:]))
    assert np.array_equal(result.image[~case[2]], case[1][~case[2]])


@pytest.mark.parametrize("change", [{"eta": 0.0}, {"floor": 1.0}, {"alpha": 0.0}, {"renormalise": False}])
def test_every_part_of_the_regulation_has_its_effect(case, change):
    settings = {"guidance": 3.0, "alpha": 5.0}
    whole, without = edit(case, **settings), edit(case, **settings | change)
    assert np.abs(whole.image - without.image).max() > 1e-4


def test_nothing_happens_without_a_change_of_words(case):
    """Inversion and sampling with one prompt, no guidance and no regulation: the image comes back."""
    pipeline, image, roi, anatomy = case
    same = edit_image(
        pipeline, image, target="right effusion", source="right effusion", words=["effusion"], roi=roi, anatomy=anatomy,
        settings=EditSettings(steps=100, strength=0.1, guidance=1.0, eta=0, alpha=0, floor=1),
    )  # fmt: skip
    assert np.abs(same.image - image).max() < 0.1


def test_noise_starts_depend_on_the_seed(case):
    first, again, other = (edit(case, seed=s, start="noise").image for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_gate_and_amplification_reach_only_the_conditional_half():
    model = tiny.denoiser()
    latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 16)
    half = np.zeros((64, 64), bool)
    half[:, :32] = True
    tokens = torch.zeros(1, 7)
    tokens[0, 3] = 1
    with torch.no_grad():
        plain = model(latents, 5, text).sample
        with regulated(model, Regulation(half, half, tokens, floor=0.1)):
            steered = model(latents, 5, text).sample
        with regulated(model, Regulation(half, half, tokens, floor=1.0, eta=0.0)):
            idle = model(latents, 5, text).sample
    torch.testing.assert_close(steered[0], plain[0])
    assert (steered[1] - plain[1]).abs().max() > 1e-3
    torch.testing.assert_close(idle, plain)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"roi": np.zeros((64, 64), bool)}, MaskError, "empty"),
        ({"roi": np.ones((32, 64), bool)}, MaskError, "one size"),
        ({"words": ("fracture",)}, ModelError, "not in the prompt"),
        ({"start": "magic"}, ModelError, "must be inversion or noise"),
        ({"strength": 0.0}, ModelError, "strength 0.0"),
    ],
)
def test_what_does_not_fit_is_named(case, arguments, error, message):
    with pytest.raises(error, match=message):
        edit(case, **arguments)


def test_other_denoisers_are_refused():
    with pytest.raises(ModelError, match="is not a UViT2DModel"), regulated(torch.nn.Linear(1, 1), None):
        pass
