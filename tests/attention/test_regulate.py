"""Every equation against softmax written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.attention.regulate import (
    amplification,
    corrected_latents,
    gate_queries,
    gated_attention,
    gated_attention_and_share,
    in_window,
    localisation_loss,
    localisation_score,
    omega_map,
    soft_gate,
    step_size,
)
from skiagraph.errors import MaskError


def case(batch, heads, pixels, tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, pixels, 8, generator=generator)
    k, v = torch.randn(2, batch, heads, tokens, 8, generator=generator)
    return q, k, v, (q @ k.transpose(-1, -2) / 8**0.5).softmax(dim=-1), generator


SIZES = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 7))


@settings(deadline=None, max_examples=25)
@given(SIZES, st.floats(0.05, 1))
def test_eq_5_on_keys(sizes, floor):
    q, k, v, weights, generator = case(*sizes)
    gate = soft_gate(torch.rand(sizes[0], sizes[3], generator=generator), floor)
    gated = weights * gate[:, None, None]
    torch.testing.assert_close(gated_attention(q, k, v, gate, renormalise=False), gated @ v, atol=1e-5, rtol=1e-5)
    normal = gated / gated.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(gated_attention(q, k, v, gate, renormalise=True), normal @ v, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(SIZES, st.floats(0, 1), st.booleans())
def test_the_share_of_attention_on_words_is_that_without_a_gate(sizes, floor, renormalise):
    q, k, v, weights, generator = case(*sizes)
    gate = soft_gate(torch.rand(sizes[3], generator=generator), floor)
    words = (torch.rand(sizes[3], generator=generator) > 0.5).float()
    out, share = gated_attention_and_share(q, k, v, gate, words, renormalise=renormalise)
    expected = gated_attention(q, k, v, gate, renormalise=renormalise)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(share, (weights * words).sum(dim=-1), atol=1e-4, rtol=1e-4)


def test_eq_6_where_words_are_not_the_only_keys():
    q, k, v, weights, _ = case(2, 2, 9, 7)
    tokens, omega, words = torch.tensor([0.0, 1, 0, 0, 0, 0, 0]), torch.rand(9), slice(0, 3)
    share = weights[..., words].sum(dim=-1)
    found = amplification(q, k[:, :, words], v[:, :, words], tokens[words], omega, 2.0, share)
    torch.testing.assert_close(found, 2 * omega[:, None] * ((weights * tokens) @ v), atol=1e-5, rtol=1e-5)


def test_eq_5_respects_a_mask_of_padding():
    q, k, v, _, _ = case(1, 2, 5, 4)
    padding = torch.tensor([0.0, 0.0, 0.0, float("-inf")]).view(1, 1, 1, 4)
    weights = (q @ k.transpose(-1, -2) / 8**0.5 + padding).softmax(dim=-1)
    gate = torch.tensor([1.0, 0.2, 0.5, 1.0])
    gated = weights * gate
    for renormalise in (False, True):
        expected = gated / gated.sum(dim=-1, keepdim=True) if renormalise else gated
        found = gated_attention(q, k, v, gate, renormalise=renormalise, attention_mask=padding)
        torch.testing.assert_close(found, expected @ v, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=15)
@given(SIZES)
def test_eq_5_on_queries(sizes):
    q, k, v, weights, generator = case(*sizes)
    gate = torch.rand(sizes[2], generator=generator)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(gate_queries(plain, gate), (weights * gate[:, None]) @ v, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(SIZES, st.floats(0, 3))
def test_eq_6(sizes, eta):
    q, k, v, weights, generator = case(*sizes)
    tokens = (torch.rand(sizes[0], sizes[3], generator=generator) > 0.5).float()
    omega = torch.rand(sizes[2], generator=generator)
    factor = 1 + eta * omega[None, None, :, None] * tokens[:, None, None]
    found = weights @ v + amplification(q, k, v, tokens, omega, eta)
    torch.testing.assert_close(found, (weights * factor) @ v, atol=1e-4, rtol=1e-4)


def test_eqs_7_to_9_pull_attention_into_the_region():
    """A map that depends on latents: following Eq. 9 raises Eq. 7's score."""
    omega = torch.zeros(16)
    omega[:4] = 1
    latents = torch.zeros(2, 16, requires_grad=True)
    score = localisation_score(latents.softmax(dim=-1), omega)
    torch.testing.assert_close(score, torch.full((2,), 0.25))
    loss = localisation_loss(score)
    assert loss.item() == pytest.approx(0.75)
    (gradient,) = torch.autograd.grad(loss, latents)
    moved = corrected_latents(latents, gradient, 5.0)
    assert (localisation_score(moved.softmax(dim=-1), omega) > score + 0.02).all()


def test_windows_and_step_sizes():
    assert [in_window(i, 10, 0.4) for i in range(10)] == [True] * 4 + [False] * 6
    assert [in_window(i, 10, 0.4, literal=True) for i in range(10)] == [False] * 6 + [True] * 4
    assert [step_size(i, 4) for i in range(6)] == pytest.approx([0.05, 0.0375, 0.025, 0.0125, 0, 0])
    assert step_size(0, 0) == 0


def test_omega_is_one_at_its_maximum_and_lies_on_the_region():
    roi = np.zeros((64, 64), bool)
    roi[32:, :32] = True
    omega = omega_map(roi, (16, 16)).view(16, 16)
    assert omega.max() == 1
    assert omega[12, 3] > 0.9 > 0.1 > omega[3, 12]
    with pytest.raises(MaskError, match="empty"):
        omega_map(np.zeros((8, 8), bool), (4, 4))
