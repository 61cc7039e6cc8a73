"""Published models in diffusers' layouts: what our interface makes of them is what diffusers' own pipelines make."""

import numpy as np
import pytest
import torch

import phantoms
import tiny
from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.heatmaps import capture_words, word_spans
from skiagraph.devices import seeded
from skiagraph.errors import ModelError
from skiagraph.pipelines.counterfactual import EditSettings, edit_image
from skiagraph.pipelines.inpaint import InpaintSettings, inpaint, load_painter
from skiagraph.pipelines.pairs import sample_with_maps
from skiagraph.pipelines.published import ADOPTED, adopt, load_pipeline

PROMPTS = ["Cardiomegaly.", "Large right pleural effusion."]

MAKERS = {
    "StableDiffusionPipeline": (tiny.stable_diffusion, {}),
    "StableDiffusionXLPipeline": (tiny.stable_diffusion_xl, {"height": 64, "width": 64}),
    "PixArtAlphaPipeline": (tiny.pixart, {"use_resolution_binning": False, "height": 64, "width": 64}),
    "PixArtSigmaPipeline": (
        lambda: tiny.pixart(sigma=True), {"use_resolution_binning": False, "height": 64, "width": 64},
    ),
    "SanaPipeline": (
        tiny.sana,
        {"use_resolution_binning": False, "height": 32, "width": 32, "complex_human_instruction": None},
    ),
}  # fmt: skip
"""Tiny pipelines of each kind, and what their own call wants to be told."""

STEERED = [kind for kind in MAKERS if kind != "SanaPipeline"]


def test_every_published_kind_is_tried():
    assert set(MAKERS) == set(ADOPTED)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_folder_draws_what_its_own_pipeline_draws(kind, tmp_path, no_network):
    make, told = MAKERS[kind]
    given = make()
    given.save_pretrained(tmp_path / "model")
    pipeline = load_pipeline(tmp_path / "model")
    ours = pipeline(PROMPTS, seeds=[3, 4], num_inference_steps=3, guidance_scale=3.0, output_type="latent").images
    own = given(
        [p.lower() if "PixArt" in kind else p for p in PROMPTS], generator=[seeded(3), seeded(4)],
        num_inference_steps=3, guidance_scale=3.0, output_type="latent", **told,
    ).images  # fmt: skip
    torch.testing.assert_close(ours, own, atol=2e-4, rtol=1e-3)
    assert ours.std() > 0.1
    with torch.no_grad():
        drawn = given.vae.decode(own / given.vae.config.scaling_factor).sample
    np.testing.assert_allclose(pipeline.draw(ours), (drawn.mean(1) / 2 + 0.5).clamp(0, 1), atol=1e-3)


def test_a_transformer_that_wants_the_pictures_size_is_told_it():
    given = tiny.pixart(sample_size=128)
    settings = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent"}
    ours = adopt(given)(PROMPTS[:1], seeds=[3], **settings).images
    own = given([PROMPTS[0].lower()], generator=[seeded(3)], use_resolution_binning=False, **settings).images
    torch.testing.assert_close(ours, own, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", MAKERS)
def test_words_have_maps_in_every_kind(kind):
    sampled = sample_with_maps(MAKERS[kind][0](), PROMPTS, ["lung", "heart"], seeds=[0, 1], steps=2, noise=(0, 1))
    assert sampled.heats.shape == (2, 2, *sampled.images.shape[1:])
    assert sampled.heats.max() == pytest.approx(1, abs=1e-3)
    assert sampled.heats.std() > 1e-3


def test_captured_attention_of_a_transformer_is_what_it_computes():
    """By brute force: softmax of the projected queries and keys of the one layer, with the bias of padded text."""
    pipeline = adopt(tiny.pixart(sigma=True))
    denoiser, layer = pipeline.denoiser, "transformer_blocks.1.attn2.processor"
    attn, heard = denoiser.transformer_blocks[1].attn2, {}
    for name in ("to_q", "to_k"):
        getattr(attn, name).register_forward_hook(lambda m, _, out, name=name: heard.__setitem__(name, out))
    text = pipeline.encode_prompts(["cardiomegaly."])
    spans = word_spans(pipeline.tokenizer, ["cardiomegaly."], [["cardiomegaly"]], pipeline.config.prompt_length)
    assert layer in adapter_of(denoiser).seeing()
    with torch.no_grad(), capture_words(denoiser, spans, [layer]) as maps:
        pipeline.predict(torch.randn(1, 4, 32, 32, generator=seeded(0)), torch.tensor(5), text)
    q, k = (heard[name].unflatten(-1, (2, 12)).transpose(1, 2) for name in ("to_q", "to_k"))
    scores = (q @ k.transpose(2, 3) / 12**0.5).masked_fill(~text.mask[:, None, None], float("-inf")).softmax(-1)
    wanted = (scores.mean(1) * spans[:, :1]).sum(-1).reshape(16, 16)
    found = maps.mean()[layer][0, 0]
    torch.testing.assert_close(found / found.max(), wanted / wanted.max(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", STEERED)
def test_published_models_edit_and_paint(kind, tmp_path):
    given = MAKERS[kind][0]()
    given.save_pretrained(tmp_path / "model")
    pipeline = load_pipeline(tmp_path / "model")
    image = phantoms.thorax(np.random.default_rng(0), side=64)[0].astype(np.float32) / 255
    roi = np.zeros((64, 64), bool)
    roi[20:44, 8:28] = True
    edit = edit_image(
        pipeline, image, target="cardiomegaly.", source="normal chest.", words=["cardiomegaly"], roi=roi,
        anatomy=~roi, settings=EditSettings(steps=4, feather=2),
    )  # fmt: skip
    assert np.abs(edit.image - image)[roi].max() > 1e-3
    assert np.array_equal(edit.image[~roi], image[~roi])
    painter = load_painter(tmp_path / "model")
    painted = inpaint(painter, image, roi, "Cardiomegaly.", settings=InpaintSettings(steps=4))
    assert np.array_equal(painted[~roi], image[~roi])
    assert np.abs(painted - image)[roi].mean() > 1e-3


def test_flow_matching_generates_and_does_not_edit(tmp_path):
    tiny.sana().save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=r"cannot paint inside masks; it is for `skiagraph generate`"):
        load_painter(tmp_path / "model")
    image, roi = np.zeros((32, 32), np.float32), np.ones((32, 32), bool)
    with pytest.raises(ModelError, match="flow matching"):
        edit_image(
            load_pipeline(tmp_path / "model"), image, target="cardiomegaly.", source="normal.",
            words=["cardiomegaly"], roi=roi, anatomy=roi,
        )  # fmt: skip


def test_half_precision_files_and_autoencoders_that_overflow_in_it(tmp_path):
    given = tiny.stable_diffusion()
    given.vae.register_to_config(force_upcast=True)
    given.to(torch.float16).save_pretrained(tmp_path / "model", variant="fp16")
    assert not list((tmp_path / "model/unet").glob("diffusion_pytorch_model.safetensors"))
    pipeline = load_pipeline(tmp_path / "model", dtype=torch.float16)
    assert pipeline.denoiser.dtype == torch.float16
    assert pipeline.vae.dtype == torch.float32
    weights = tmp_path / "model/unet/diffusion_pytorch_model.fp16.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.safetensors"))
    assert load_pipeline(tmp_path / "model").denoiser.dtype == torch.float32, "one part in half precision alone"
    assert np.isfinite(pipeline(PROMPTS[:1], seeds=[0], num_inference_steps=1).images).all()


def test_other_kinds_are_named(tmp_path):
    tiny.inpainting_pipeline().save_pretrained(tmp_path / "painter")
    with pytest.raises(ModelError, match=r"cannot make images from text; it is for `skiagraph augment`"):
        load_pipeline(tmp_path / "painter")
    with pytest.raises(ModelError, match="StableDiffusionInpaintPipeline does not make images from text"):
        adopt(tiny.inpainting_pipeline())
