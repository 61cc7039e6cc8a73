"""The losses of networks whose pictures are to look real."""

import pytest
import torch

from skiagraph.training.perceptual import CORNERS, PerceptualLoss, weave
from skiagraph.training.recipe import PerceptualLosses


@pytest.mark.parametrize("seed", [0, 1])
def test_pictures_are_looked_at_from_a_corner_drawn_anew(seed):
    """What lies outside has no gradient, and the corner is the generator's."""
    loss = PerceptualLoss(PerceptualLosses())
    made = torch.rand(2, 1, 64 + CORNERS, 64 + CORNERS, generator=torch.Generator().manual_seed(5)).requires_grad_()
    total, _ = loss(
        loss.critic(), made, made[:1].detach().flip(-1), lambda x: x.sum() * 0, torch.Generator().manual_seed(seed)
    )
    total.backward()
    y, x = torch.randint(CORNERS, (2,), generator=torch.Generator().manual_seed(seed)).tolist()
    seen = torch.zeros(64 + CORNERS, 64 + CORNERS, dtype=torch.bool)
    seen[y : y + 64, x : x + 64] = True
    moved = (made.grad != 0).any(dim=(0, 1))
    assert not moved[~seen].any()
    assert moved[seen].float().mean() > 0.99


def test_a_weave_is_what_repeats_from_patch_to_patch():
    generator = torch.Generator().manual_seed(0)
    grain = 0.05 * torch.randn(2, 1, 128, 128, generator=generator)
    thread = 0.05 * torch.tensor([1.0, -1, 1, -1]).repeat(32)
    assert weave(grain) < 0.006
    assert weave(grain + thread) == pytest.approx(0.09, abs=0.02)
    assert weave(torch.linspace(-1, 1, 128).expand(2, 1, 128, 128)) < 0.002  # shading is none
