"""Edits with the tiny pipeline: what changes, what must not, and each part of the regulation."""

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel

import phantoms
import tiny
from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.heatmaps import capture_words, word_spans
from skiagraph.attention.regulate import omega_map
from skiagraph.errors import MaskError, ModelError
from skiagraph.pipelines.counterfactual import EditSettings, edit_image
from skiagraph.pipelines.localise import each_token, localised
from skiagraph.pipelines.paste import covering, one_way, tissue_levels

FAST = {"steps": 4, "strength": 0.6}


@pytest.fixture(scope="module")
def case():
    pixels, mask = phantoms.thorax(np.random.default_rng(0), side=tiny.SIDE)
    roi = np.zeros(mask.shape, bool)
    roi[32:56, 8:30] = True
    return tiny.pipeline(), pixels.astype(np.float32) / 255, roi, mask > 0


def edit(case, seed=0, roi=None, anatomy=None, words=("consolidation",), direction=0, **settings):
    pipeline, image, own_roi, own_anatomy = case
    return edit_image(
        pipeline, image, target="right consolidation. effusion", source="right effusion", words=list(words),
        roi=own_roi if roi is None else roi, anatomy=own_anatomy if anatomy is None else anatomy,
        direction=direction, settings=EditSettings(**{**FAST, **settings}), seed=seed,
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


def test_the_picture_changes_where_the_change_goes_in_the_findings_direction(case):
    _, _, roi, _ = case
    whole = edit(case, levelled=False)
    for direction in (1, -1):
        made = edit(case, direction=direction, levelled=False)
        np.testing.assert_array_equal(made.change, one_way(whole.change, roi, direction))
    both = edit(case, direction=1, one_way=False, levelled=False)
    np.testing.assert_array_equal(both.image, whole.image)


def test_nothing_becomes_denser_than_soft_tissue(case):
    _, image, roi, anatomy = case
    settings = {"guidance": 9.0, "alpha": 0.2}
    plain, made = edit(case, levelled=False, **settings), edit(case, **settings)
    low, high = tissue_levels(image, anatomy | roi)
    assert plain.levels is None
    assert made.levels == (low, high)
    assert plain.image.max() > np.maximum(image, low).max()
    assert (made.image <= np.maximum(image, high) + 1e-6).all()
    np.testing.assert_array_equal(made.change, covering(plain.change, roi))


def test_any_schedulers_configuration_can_be_inverted(case):
    """The shipped model's names a spacing of steps that diffusers' inverse scheduler refuses."""
    pipeline = tiny.pipeline(
        scheduler=DPMSolverMultistepScheduler(num_train_timesteps=100, timestep_spacing="linspace")
    )
    result = edit((pipeline, *case[1:]))
    assert np.array_equal(result.image[~case[2]], case[1][~case[2]])


@pytest.mark.parametrize(
    "change",
    [
        {"eta": 0.0},
        {"floor": 1.0},
        {"alpha": 0.0},
        {"renormalise": False},
        {"gate": "queries"},
        {"both_halves": False},
        {"late": True},
        {"against": "nothing"},
    ],
)
def test_every_part_of_the_regulation_has_its_effect(case, change):
    settings = {"guidance": 3.0, "alpha": 0.2}
    whole, without = edit(case, **settings), edit(case, **settings | change)
    assert np.abs(whole.image - without.image).max() > 1e-4


def test_guidance_does_not_multiply_what_the_gate_does(case):
    """One and the same prompt, Eq. 5 alone: the region moves no farther at guidance 7.5 than without guidance."""
    pipeline, image, roi, anatomy = case

    def moved(guidance, both_halves):
        settings = EditSettings(**FAST, guidance=guidance, eta=0, alpha=0, floor=0.2, both_halves=both_halves)
        same = edit_image(
            pipeline, image, target="right effusion", source="right effusion", words=["effusion"], roi=roi,
            anatomy=anatomy, settings=settings,
        )  # fmt: skip
        return np.abs(same.image - image)[roi].mean()

    assert moved(7.5, True) == pytest.approx(moved(1.0, True), rel=1e-3)
    assert moved(7.5, False) > 2 * moved(1.0, False) > 0


def test_nothing_happens_without_a_change_of_words(case):
    """One prompt and no regulation: the image comes back whatever the steps and the guidance."""
    pipeline, image, roi, anatomy = case
    same = edit_image(
        pipeline, image, target="right effusion", source="right effusion", words=["effusion"], roi=roi, anatomy=anatomy,
        settings=EditSettings(**FAST, guidance=7.5, eta=0, alpha=0, floor=1),
    )  # fmt: skip
    assert np.abs(same.image - image).max() < 1e-4


def test_noise_starts_depend_on_the_seed(case):
    first, again, other = (edit(case, seed=s, start="noise").image for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"roi": np.zeros((64, 64), bool)}, MaskError, "empty"),
        ({"roi": np.ones((32, 64), bool)}, MaskError, "one size"),
        ({"words": ("fracture",)}, ModelError, "not in the prompt"),
        ({"start": "magic"}, ModelError, "must be inversion or noise"),
        ({"strength": 0.0}, ModelError, "strength 0.0"),
        ({"against": "all"}, ModelError, "must be source or nothing"),
        ({"gate": "all"}, ModelError, "must be one of keys"),
    ],
)
def test_what_does_not_fit_is_named(case, arguments, error, message):
    with pytest.raises(error, match=message):
        edit(case, **arguments)


def test_a_diffusers_unet_is_edited_through_the_same_interface(case):
    """Stable Diffusion's parts: a U-Net that steers and is read, text states, an autoencoder of three channels."""
    _, image, roi, anatomy = case
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
    ).eval()  # fmt: skip
    pipeline = tiny.pipeline(vae=tiny.colour_autoencoder())
    pipeline.register_modules(denoiser=unet)
    result = edit((pipeline, image, roi, anatomy), guidance=3.0)
    plain = edit((pipeline, image, roi, anatomy), guidance=3.0, eta=0.0, floor=1.0, alpha=0.0)
    assert np.array_equal(result.image[~roi], image[~roi])
    assert 0 < result.scores[0] < 1
    assert np.abs(result.image - plain.image).max() > 1e-5


def test_steps_of_eq_9_are_relative_to_the_latents_or_as_printed(case):
    assert max(edit(case, relative=False).moved) < 1e-3
    assert edit(case, relative=True, alpha=0.1, steps=10, strength=0.5).moved == pytest.approx([0.1, 0.05], rel=1e-3)


def test_eq_7_reads_the_plain_network_or_the_steered_one(case):
    own, steered = (edit(case, steered=choice, floor=0.1, eta=5.0).scores[0] for choice in (False, True))
    plain = edit(case, steered=True, floor=1.0, eta=0.0).scores[0]
    assert own == pytest.approx(plain, rel=1e-6)
    assert steered != pytest.approx(own, rel=1e-5)


def test_eqs_7_and_8_are_means_over_tokens_of_amplified_attention(case):
    """The score of a finding of two tokens, from captured maps of each."""
    pipeline, image, roi, _ = case
    prompt, word = "right consolidation. effusion", "consolidation"
    text = pipeline.encode_prompts([prompt])
    spans = word_spans(pipeline.tokenizer, [prompt], [[word]], pipeline.config.prompt_length)
    tokens = each_token(spans)
    assert tokens.sum() == (spans > 0).sum() > 1
    latents, step, eta = pipeline.encode(image[None]), torch.tensor(50), 3.0
    with capture_words(pipeline.denoiser, tokens, adapter_of(pipeline.denoiser).pointing) as captured, torch.no_grad():
        pipeline.predict_guided(latents, step, text, 1.0)
    (maps,) = captured.mean().values()
    omega = omega_map(roi, tuple(maps.shape[-2:])).view(maps.shape[-2:])
    amplified = maps[0] * (1 + eta * omega)
    expected = ((amplified * omega).sum(dim=(-1, -2)) / amplified.sum(dim=(-1, -2))).mean()
    _, score, _ = localised(pipeline, latents, step, text, spans, roi, 0.1, True, eta)
    assert score == pytest.approx(float(expected), rel=1e-5)


def test_a_narrow_region_can_change(case):
    """One pixel column narrower than a latent pixel: its latents are not held back in every step."""
    narrow = np.zeros((64, 64), bool)
    narrow[20:40, 10:15] = True
    result = edit(case, roi=narrow, feather=1.0, guidance=6.0)
    assert np.abs(result.image - case[1])[narrow].max() > 0.01
