"""The latent segmenter: its mask codecs, its steps against DDIM written out, and when it warns."""

import math
import warnings

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D

import tiny
from skiagraph.errors import ModelError
from skiagraph.models.latent_segmenter import LatentSegmenter, latent_unet, vote_entropy
from skiagraph.models.mask_codec import KLCodec, PatchCodec
from skiagraph.models.registry import load_component

IMAGES = torch.rand(3, 1, 40, 56, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def model():
    return tiny.latent_segmenter()


def test_a_whole_basis_loses_nothing():
    codec = PatchCodec(channels=16, patch=4)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)))[0]
    codec.set_transform(basis, torch.linspace(0.5, 2, 16), mean=torch.tensor([0.3]))
    pictures = torch.rand(2, 1, 12, 8) * 2 - 1
    latents = codec.encode(pictures)
    assert latents.shape == (2, 16, 3, 2)
    torch.testing.assert_close(codec.decode(latents), pictures)
    patch = pictures[1, 0, 4:8, 4:8].reshape(16) - 0.3
    torch.testing.assert_close(latents[1, 5, 1, 1], patch @ basis[:, 5] * torch.linspace(0.5, 2, 16)[5])


def test_masks_go_through_latents_class_by_class():
    model = tiny.latent_segmenter(mask_coefficients=16)
    model.codec.set_transform(torch.eye(16), torch.ones(16), torch.zeros(1))
    labels = torch.randint(3, (2, 32, 32), generator=torch.Generator().manual_seed(1))
    latents = model.encode_masks(labels)
    assert latents.shape == (2, *model.latent_shape) == (2, 32, 8, 8)
    scores = model.decode_masks(latents)
    assert torch.equal(scores.argmax(dim=1), labels)
    assert torch.equal(scores[:, 2] > 0, labels == 2)
    assert not scores[:, 0].any()


def test_answers_have_the_size_of_the_input_and_do_not_depend_on_the_batch(model):
    labels = model.segment(IMAGES)
    assert labels.shape == (3, 40, 56)
    assert labels.dtype == torch.uint8
    torch.testing.assert_close(model.scores(IMAGES[1:2]), model.scores(IMAGES)[1:2], atol=1e-4, rtol=1e-4)
    assert not torch.equal(model.scores(IMAGES, seed=1), model.scores(IMAGES))


@pytest.mark.parametrize("kind", ["sample", "epsilon"])
def test_steps_are_ddim_written_out(kind):
    model = tiny.latent_segmenter(prediction_type=kind)
    images = torch.nn.functional.interpolate(IMAGES, (32, 32), mode="bilinear", antialias=True)
    latents = torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(3)).expand(3, -1, -1, -1)
    products = np.cumprod(1 - np.linspace(0.0015**0.5, 0.0155**0.5, 1000) ** 2)
    with torch.no_grad():
        for t, following in ((999, 499), (499, None)):
            clean = model(latents, torch.full((3,), t), images)
            now, then = products[t], 1.0 if following is None else products[following]
            noise = (latents - now**0.5 * clean) / (1 - now) ** 0.5
            latents = then**0.5 * clean + (1 - then) ** 0.5 * noise
        expected = torch.nn.functional.interpolate(model.decode_masks(latents), (40, 56), mode="bilinear")
    torch.testing.assert_close(model.scores(IMAGES, steps=2, seed=3), expected, atol=2e-3, rtol=2e-3)


def test_a_single_step_is_the_prediction_from_pure_noise():
    model = tiny.latent_segmenter(timestep=321)
    images = torch.nn.functional.interpolate(IMAGES, (32, 32), mode="bilinear", antialias=True)
    noise = torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    with torch.no_grad():
        clean = model(noise, torch.full((3,), 321), images)
    expected = torch.nn.functional.interpolate(model.decode_masks(clean), (40, 56), mode="bilinear")
    torch.testing.assert_close(model.scores(IMAGES), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("share", "own", "used", "steps", "message"),
    [
        (0.0, 50, 50, 1, "never saw there"),
        (0.5, 999, 50, 1, "never saw there"),
        (1.0, 999, 999, 2, "single step only"),
        (0.5, 50, 50, 1, None),
        (0.0, 999, 999, 1, None),
        (0.5, 999, 999, 2, None),
    ],
)
def test_steps_that_training_never_showed_are_warned_of(share, own, used, steps, message):
    model = tiny.latent_segmenter(one_step_share=share, timestep=own)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.scores(IMAGES, steps=steps, timestep=used)
    told = [str(w.message) for w in caught if w.category is UserWarning]
    assert (not told) if message is None else (len(told) == 1 and message in told[0])


def test_uncertainty_is_the_entropy_of_votes(model):
    scores = torch.zeros(4, 1, 3, 1, 3)
    votes = [[0, 1, 0], [0, 1, 1], [0, 2, 1], [0, 2, 0]]  # of four draws at three pixels
    for draw, classes in enumerate(votes):
        for pixel, chosen in enumerate(classes):
            scores[draw, 0, chosen, 0, pixel] = 1
    half = math.log(2) / math.log(3)
    torch.testing.assert_close(vote_entropy(scores)[0, 0], torch.tensor([0.0, half, half]))
    draws = model.draws(IMAGES, 2, seed=5)
    torch.testing.assert_close(draws[1], model.scores(IMAGES, seed=6))


def test_saved_and_loaded_it_says_the_same(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    loaded = load_component(tmp_path / "m")
    assert isinstance(loaded, LatentSegmenter)
    assert torch.equal(loaded.eval().scores(IMAGES), model.scores(IMAGES))


def test_with_the_autoencoder_of_diffusers_as_published(tmp_path):
    autoencoder = tiny.colour_autoencoder()
    model = tiny.latent_segmenter(autoencoder=dict(autoencoder.config))
    assert isinstance(model.codec, KLCodec)
    assert model.latent_shape == (8, 16, 16)
    model.codec.autoencoder.load_state_dict(autoencoder.state_dict())
    model.codec.scale.fill_(2.0)
    pictures = torch.rand(2, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        mode = autoencoder.encode(pictures.repeat(1, 3, 1, 1)).latent_dist.mode()
        torch.testing.assert_close(model.codec.encode(pictures), 2 * mode)
        torch.testing.assert_close(model.codec.decode(2 * mode), autoencoder.decode(mode).sample.mean(1, keepdim=True))
    assert not any(p.requires_grad for p in model.codec.parameters())
    assert all(p.requires_grad for p in model.vision.parameters())
    model.save_pretrained(tmp_path / "m")
    loaded = load_component(tmp_path / "m")
    torch.testing.assert_close(loaded.eval().scores(IMAGES), model.scores(IMAGES))


PUBLISHED = {"channels": (192, 384, 384, 768, 768), "layers": 2, "attention": 4, "blocks": "ldm", "dropout": 0.2}


def parts(network, kind):
    return [m for m in network.modules() if isinstance(m, kind)]


def test_the_published_network_is_that_of_its_code():
    """The numbers are those of the UNetModel that SDSeg's code builds from its cvc-ldm-kl-8.yaml."""
    with torch.device("meta"):
        unet = latent_unet(8, 4, **PUBLISHED)
    assert sum(p.numel() for p in unet.parameters()) == 294_973_828
    residual, attention = parts(unet, ResnetBlock2D), parts(unet, Attention)
    assert (len(residual), len(attention)) == (35, 21)
    assert [len(parts(level, Attention)) for level in unet.down_blocks] == [2, 2, 2, 2, 0]
    assert [len(parts(level, Attention)) for level in unet.up_blocks] == [0, 3, 3, 3, 3]
    assert {layer.heads for layer in attention} == {8}
    assert all(math.isclose(layer.scale, (layer.inner_dim / 8) ** -0.5) for layer in attention)
    assert all(layer.group_norm.num_groups == 32 for layer in attention)
    assert {layer.time_embedding_norm for layer in residual} == {"scale_shift"}
    assert {layer.dropout.p for layer in residual} == {0.2}
    assert sum(layer.down for layer in residual) == sum(layer.up for layer in residual) == 4


def test_the_small_network_is_as_it_was():
    unet = LatentSegmenter().denoiser
    residual, attention = parts(unet, ResnetBlock2D), parts(unet, Attention)
    assert (len(residual), len(attention)) == (3 + 2 + 6, 1)
    assert {layer.time_embedding_norm for layer in residual} == {"default"}
    assert (attention[0].heads, attention[0].group_norm.num_groups) == (4, 8)
    assert not any(layer.down or layer.up for layer in residual)


@pytest.mark.parametrize("blocks", ["plain", "ldm"])
def test_networks_of_either_kind_keep_their_heads_when_saved(tmp_path, blocks):
    sizes = {"denoiser_channels": (32, 64), "denoiser_layers": 2, "denoiser_attention": 1, "denoiser_dropout": 0.5}
    model = tiny.latent_segmenter(denoiser_blocks=blocks, **sizes)
    model.save_pretrained(tmp_path / "m")
    loaded = load_component(tmp_path / "m").eval()
    heads = [layer.heads for layer in parts(loaded.denoiser, Attention)]
    assert heads == ([1, 1, 1, 1, 1, 2] if blocks == "plain" else [8] * 6)
    assert torch.equal(loaded.scores(IMAGES), model.scores(IMAGES))


@pytest.mark.parametrize(
    "changes",
    [
        {"timestep": 1000},
        {"prediction_type": "v_prediction"},
        {"denoiser_blocks": "round"},
        {"denoiser_attention": 3},
        {"denoiser_attention": 1},
        {"denoiser_blocks": "ldm"},
    ],
)
def test_impossible_configurations_are_refused(changes):
    with pytest.raises(ModelError, match="latent segmenter"):
        tiny.latent_segmenter(**changes)


def test_impossible_calls_are_refused(model):
    with pytest.raises(ModelError, match="expected"):
        model.scores(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ModelError, match="0 steps"):
        model.scores(IMAGES, steps=0)


def test_a_vision_network_wants_sides_it_can_halve_and_no_autoencoder():
    pytest.importorskip("efficientnet_lite_pytorch")
    for changes in ({"working_size": 72}, {"working_size": 64, "autoencoder": {"latent_channels": 4}}):
        with pytest.raises(ModelError, match="vision_network"):
            tiny.latent_segmenter(vision_network="efficientnet-lite0", **changes)
