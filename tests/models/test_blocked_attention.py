import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from skiagraph.models.blocked_attention import blocked_attention, trained_on_cpu


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


@given(
    batch=st.integers(1, 3), heads=st.integers(1, 3), queries=st.integers(1, 7), keys=st.integers(2, 7),
    width=st.integers(1, 5), masked=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_value_and_gradients_are_those_of_the_reference(batch, heads, queries, keys, width, masked, seed):
    q, k = draw(batch, heads, queries, 4, seed=seed), draw(batch, heads, keys, 4, seed=seed + 1)
    v = draw(batch, heads, keys, width, seed=seed + 2)
    mask = None
    if masked:
        mask = torch.rand(batch, 1, 1, keys, generator=torch.Generator().manual_seed(seed)) < 0.6
        mask[..., 0] = True
    ours, reference = blocked_attention(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert torch.allclose(ours, reference)
    upstream = draw(*ours.shape, seed=seed + 3).detach()
    for mine, theirs in zip(
        torch.autograd.grad(ours, (q, k, v), upstream), torch.autograd.grad(reference, (q, k, v), upstream), strict=True
    ):
        assert torch.allclose(mine, theirs)


def test_heads_cut_out_of_projections_need_no_copy_and_bfloat16_stays():
    states = torch.randn(2, 6, 8, dtype=torch.bfloat16, requires_grad=True)
    heads = states.unflatten(-1, (2, 4)).transpose(1, 2)
    out = blocked_attention(heads, heads, heads)
    assert out.dtype == torch.bfloat16
    assert out.transpose(1, 2).flatten(2).is_contiguous()
    reference = F.scaled_dot_product_attention(*(heads.float(),) * 3)
    assert torch.allclose(out.float(), reference, atol=0.05)


@pytest.mark.parametrize(
    ("wanted", "enabled", "expected"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_only_training_takes_it(wanted, enabled, expected):
    query = torch.zeros(1, requires_grad=wanted)
    with torch.set_grad_enabled(enabled):
        assert trained_on_cpu(query) is expected
