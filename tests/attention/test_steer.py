"""Steered networks against the same networks with every attention weight written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel, UNet2DModel

import tiny
from skiagraph.attention.heatmaps import capture_words
from skiagraph.attention.regulate import omega_map
from skiagraph.attention.steer import GATES, Regulation, regulated
from skiagraph.errors import ModelError

TOKENS = 7


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12, attention_head_dim=(2, 4), norm_num_groups=4,
    ).eval()  # fmt: skip


def regulation(shape, **changes):
    """Anatomy in the left half and a region in its upper part; one token of the finding and one of the organ."""
    anatomy, roi = np.zeros(shape, bool), np.zeros(shape, bool)
    anatomy[:, : shape[1] // 2] = True
    roi[: shape[0] // 2, : shape[1] // 2] = True
    pathology, organs = torch.zeros(2, 1, TOKENS)
    pathology[0, 3] = organs[0, 4] = 1
    return Regulation(anatomy, roi, pathology, organs, **{"floor": 0.2, "eta": 2.0, "other_organs": organs, **changes})


def of_half(r, conditional):
    """What is done to one half of a guided batch, as a regulation of that half alone; None for nothing."""
    if conditional:
        return r
    return replace(r, amplify=False, organs=r.other_organs) if r.both_halves else None


def gate_and_omega(r, size):
    anatomy = F.adaptive_avg_pool2d(torch.from_numpy(r.anatomy).float()[None], size).flatten()
    return r.floor + (1 - r.floor) * anatomy, omega_map(r.roi, size)


def word_factor(r, size):
    """(pixels, tokens): what Eqs. 5 and 6 multiply attention to words by."""
    gate, omega = gate_and_omega(r, size)
    amplified = r.eta * omega[:, None] * r.pathology if r.amplify else 0
    return 1 + amplified - (1 - gate)[:, None] * r.organs


def gated_pixels(weights, r, size):
    """Eq. 5 on attention weights whose last two axes are pixels by pixels."""
    gate, _ = gate_and_omega(r, size)
    gated = weights * gate if r.gate != "queries" else weights
    if r.gate != "queries" and r.renormalise:
        gated = gated / gated.sum(dim=-1, keepdim=True)
    return gated * gate[:, None] if r.gate != "keys" else gated


class Explicit:
    """A U-Net layer's attention with its matrix of weights, each half of the batch steered as it should be."""

    def __init__(self, r, sizes):
        self.r, self.sizes = r, sizes

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        cross = encoder_hidden_states is not None
        source = encoder_hidden_states if cross else hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source)
        q, k, v = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, k, v))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        size = self.sizes[weights.shape[2]]

        def steered(half, r):
            if r is None:
                return half
            return half * word_factor(r, size) if cross else gated_pixels(half, r, size)

        weights = torch.cat([steered(weights[i : i + 1], of_half(self.r, bool(i))) for i in range(2)])
        return attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("amplify", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_a_unet_steered_equals_explicit_weights(gate, renormalise, amplify, both):
    model, r = unet(), regulation((128, 192), gate=gate, renormalise=renormalise, amplify=amplify, both_halves=both)
    latents, text = torch.randn(1, 4, 16, 24).repeat(2, 1, 1, 1), torch.randn(2, TOKENS, 12)
    plain_processors = model.attn_processors
    with torch.no_grad():
        plain = model(latents, 5, text).sample
        with regulated(model, r):
            steered = model(latents, 5, text).sample
        assert model.attn_processors == plain_processors
        model.set_attn_processor(Explicit(r, {16 * 24: (16, 24), 8 * 12: (8, 12)}))
        explicit = model(latents, 5, text).sample
    torch.testing.assert_close(steered, explicit, atol=1e-5, rtol=1e-4)
    assert torch.allclose(steered[0], plain[0], atol=1e-5) != both
    assert (steered[1] - plain[1]).abs().max() > 1e-4


def test_words_of_a_steered_unet_can_be_read():
    """Eqs. 7 to 9 read the maps of a network while Eqs. 5 and 6 steer it."""
    model, r = unet(), regulation((128, 128))
    latents = torch.randn(1, 4, 16, 16, requires_grad=True)
    with regulated(model, r), capture_words(model, r.pathology[:, None]) as maps:
        model(latents, 5, torch.randn(1, TOKENS, 12))
    total = sum(m.sum() for m in maps.mean().values())
    assert torch.autograd.grad(total, latents)[0].abs().max() > 0


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("both", [True, False])
def test_a_uvit_steered_equals_explicit_weights(gate, both):
    model, r = tiny.denoiser(), regulation((64, 64), gate=gate, renormalise=False, both_halves=both)
    latents, text = torch.randn(1, 4, 8, 8).repeat(2, 1, 1, 1), torch.randn(2, TOKENS, 16)
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[:, -1] = False

    def explicit(attn, states, mask, layout):
        q, k, v = attn.project(states)
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~mask, float("-inf")).softmax(dim=-1)
        size, image = (layout.height, layout.width), layout.image_slice

        def factor(r):
            factor = torch.ones(weights.shape[2:])
            if r is None:
                return factor
            level, _ = gate_and_omega(r, size)
            if r.gate != "queries":
                factor[image, image] = level
            # What queries are gated by, Eq. 6 is not: it adds to the gated output.
            if r.gate != "keys":
                factor[image] = factor[image] * level[:, None]
            factor[image, layout.text_slice] += word_factor(r, size) - 1
            return factor

        weights = torch.cat([weights[i : i + 1] * factor(of_half(r, bool(i))) for i in range(2)])
        return attn.merge(weights @ v)

    with torch.no_grad():
        plain = model(latents, 5, text, mask).sample
        with regulated(model, r):
            steered = model(latents, 5, text, mask).sample
        model.set_attn_processor(explicit)
        expected = model(latents, 5, text, mask).sample
    torch.testing.assert_close(steered, expected, atol=1e-4, rtol=1e-4)
    assert torch.allclose(steered[0], plain[0], atol=1e-4) != both
    assert (steered[1] - plain[1]).abs().max() > 1e-3


def test_everything_off_changes_nothing():
    for model, latents, text in (
        (unet(), torch.randn(2, 4, 16, 16), torch.randn(2, TOKENS, 12)),
        (tiny.denoiser(), torch.randn(2, 4, 8, 8), torch.randn(2, TOKENS, 16)),
    ):
        with torch.no_grad():
            plain = model(latents, 5, text).sample
            with regulated(model, regulation((64, 64), floor=1.0, eta=0.0)):
                torch.testing.assert_close(model(latents, 5, text).sample, plain, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_steered_is_named():
    unconditional = UNet2DModel(sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    for model in (unconditional, torch.nn.Linear(1, 1)):
        with pytest.raises(ModelError, match="no attention to text"), regulated(model, regulation((8, 8))):
            pass
    with (
        pytest.raises(ModelError, match="gate 'half' must be one of"),
        regulated(unet(), regulation((8, 8), gate="half")),
    ):
        pass
    model = tiny.denoiser()
    with pytest.raises(ModelError, match="a batch of 3 images"), regulated(model, regulation((64, 64))):
        model(torch.randn(3, 4, 8, 8), 5, torch.randn(3, TOKENS, 16))
