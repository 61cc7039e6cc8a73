"""Multiply-adds: the closed form against counting, and the figures docs quote."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from skiagraph.models.cost import ComponentCost, component_cost, measured_macs, uvit_macs
from skiagraph.models.uvit import PRESETS, UViT2DModel


def _uvit(preset: str, tokens: int, dim: int = 768) -> tuple[nn.Module, tuple[Tensor, ...]]:
    with torch.device("meta"):
        model = UViT2DModel.from_preset(preset, sample_size=32, text_dim=dim, text_tokens=tokens)
        return model, (torch.zeros(1, 4, 32, 32), torch.zeros(1), torch.zeros(1, tokens, dim))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tokens", [0, 77, 256])
def test_closed_form_agrees_with_counting(preset, tokens):
    model, inputs = _uvit(preset, tokens)
    p = PRESETS[preset]
    conv = p.get("final_conv", True)
    closed = uvit_macs(p["hidden_size"], p["depth"], 32, p["patch_size"], tokens, final_conv=conv)
    assert closed == pytest.approx(measured_macs(model, *inputs), rel=0.02)


@pytest.mark.parametrize(
    ("hidden", "depth", "gmacs"),
    [
        (512, 12, (12.2, 16.2, 19.0, 26.2)),
        (768, 16, (35.1, 46.3, 53.9, 73.6)),
        (1024, 20, (76.1, 100.1, 116.3, 157.8)),
        (1152, 28, (132.7, 174.2, 202.1, 273.8)),
    ],
)
def test_published_sizes(hidden, depth, gmacs):
    counted = [uvit_macs(hidden, depth, 32, 2, n) / 1e9 for n in (0, 77, 128, 256)]
    assert counted == pytest.approx(gmacs, abs=0.06)


def test_attention_is_counted_alike_on_cpu_and_meta():
    class Attend(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(x, x, x)

    shape, expected = (1, 2, 16, 8), 2 * 2 * 16 * 16 * 8
    assert measured_macs(Attend(), torch.zeros(shape)) == expected
    assert measured_macs(Attend(), torch.zeros(shape, device="meta")) == expected


def test_masked_text_costs_the_same():
    model, inputs = _uvit("XS/2", 8, dim=16)
    mask = torch.ones(1, 8, dtype=torch.bool, device="meta")
    assert measured_macs(model, *inputs, mask) == measured_macs(model, *inputs)


def test_component_cost_of_a_linear_layer():
    cost = component_cost("linear", nn.Linear(3, 5), torch.zeros(7, 3))
    assert cost == ComponentCost("linear", parameters=20, macs=105)
    assert cost.flops == 210


@pytest.mark.slow
@pytest.mark.parametrize(("side", "gmacs"), [(32, 90.05), (64, 401.6)])
def test_stable_diffusion_unet(side, gmacs):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        inputs = (torch.zeros(1, 4, side, side), torch.zeros(1), torch.zeros(1, 77, 768))
    assert measured_macs(unet, *inputs) / 1e9 == pytest.approx(gmacs, rel=0.001)
