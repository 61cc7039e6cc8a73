import pytest
import torch

from skiagraph.attention.capture import image_to_text_attention, record_text_attention
from skiagraph.errors import ModelError
from skiagraph.models.uvit import TokenLayout, UViT2DModel


def test_block_equals_explicit_softmax():
    layout = TokenLayout(text=4, height=3, width=2)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 2, 3, 11, 8, generator=generator).unbind(0)
    mask = torch.ones(2, 1, 1, 11, dtype=torch.bool)
    mask[0, ..., 4] = False
    explicit = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~mask, float("-inf")).softmax(-1)
    found = image_to_text_attention(q, k, mask, layout)
    torch.testing.assert_close(found, explicit[:, :, 5:11, 1:5], atol=1e-5, rtol=1e-5)
    assert found[0, :, :, 3].abs().max() == 0


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UViT2DModel(
        sample_size=8,
        in_channels=2,
        patch_size=2,
        hidden_size=16,
        depth=2,
        num_heads=2,
        text_dim=6,
        text_tokens=5,
    )


def test_recording_leaves_output_and_processors_as_they_were(model):
    arguments = torch.randn(2, 2, 8, 8), torch.tensor([1, 2]), torch.randn(2, 5, 6)
    before, plain = model.attn_processors, model(*arguments).sample
    with record_text_attention(model, ["mid_block.attn.processor"]) as recorders:
        recorded = model(*arguments).sample
    torch.testing.assert_close(recorded, plain)
    assert model.attn_processors == before
    maps = recorders["mid_block.attn.processor"].last
    assert maps.shape == (2, 5, 4, 4)
    assert (maps >= 0).all()
    assert (maps.sum(dim=1) <= 1).all()


def test_recorded_maps_carry_gradient(model):
    with record_text_attention(model, ["mid_block.attn.processor"]) as recorders:
        model(torch.randn(1, 2, 8, 8), 3, torch.randn(1, 5, 6))
        recorders["mid_block.attn.processor"].last[:, 0].max().backward()
    assert model.mid_block.attn.to_qkv.weight.grad.abs().sum() > 0


def test_unknown_layer_is_named(model):
    with pytest.raises(ModelError, match=r"nowhere.*mid_block"), record_text_attention(model, ["nowhere"]):
        pass
