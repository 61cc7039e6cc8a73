"""The losses of networks whose pictures are to look real."""

import numpy as np
import pytest
import torch

from skiagraph.training.perceptual import CORNERS, PERIODS, ROUNDING, PerceptualLoss, fine_power, random_crops, weave
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


def test_power_of_fine_detail_is_that_of_every_square_by_itself():
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 1, 48, 64)).astype(np.float32)
    found = fine_power(torch.from_numpy(pictures)).numpy()
    bands = len(PERIODS) - 1
    assert found.shape == (2, 2, 3, 4 * bands)
    at = np.arange(32)
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * at / 32))[:, None] * (0.5 - 0.5 * np.cos(2 * np.pi * at / 32))
    square = pictures[1, 0, 16:48, 32:64].astype(np.float64)
    powers = {}
    for u in range(-16, 16):
        for v in range(17):
            period = 32 / max(np.hypot(u, v), 1e-9)
            band = sum(period <= border for border in PERIODS) - 1
            degrees = np.degrees(np.arctan2(u, v)) % 180
            direction = min(range(4), key=lambda d: min(abs(degrees - 45 * d), 180 - abs(degrees - 45 * d)))
            wave = np.exp(-2j * np.pi * (u * at[:, None] + v * at) / 32)
            power = abs(((square - square.mean()) * hann * wave).sum()) ** 2
            powers.setdefault((band, direction), []).append(power)
    expected = [np.mean(powers[band, d]) / (hann**2).sum() + ROUNDING for band in range(bands) for d in range(4)]
    assert np.allclose(found[1, 1, 2], np.log(expected), rtol=1e-3)


def test_power_of_fine_detail_is_the_grains_variance_wherever_the_grains_lie():
    a, b = 0.05 * torch.randn(2, 4, 1, 128, 128, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(fine_power(a).exp().mean((0, 1, 2)), torch.tensor(0.05**2), rtol=0.2)
    assert (fine_power(a) - fine_power(b)).abs().mean() < 0.5
    assert (fine_power(a) - fine_power(2 * b)).abs().mean() > 1


def test_lines_have_their_power_in_one_direction():
    waves = torch.sin(torch.arange(64) * 2 * torch.pi / 4).expand(1, 1, 64, 64)
    across, along = (fine_power(x).mean((0, 1, 2)).unflatten(0, (-1, 4)).amax(0) for x in (waves, waves.mT))
    assert across.argmax() == 0
    assert along.argmax() == 2
    assert across[0] > across[2] + 5


def test_crops_lie_where_their_corners_have_weight():
    planes = torch.arange(2 * 8 * 8).reshape(2, 1, 8, 8)
    weights = torch.zeros(2, 9)
    weights[0, 5] = weights[1, 6] = 1  # row 1, column 2; row 2, column 0
    crops = random_crops(planes, 2, torch.Generator().manual_seed(0), grid=2, weights=weights)
    assert torch.equal(crops[0], planes[0, :, 2:6, 4:8])
    assert torch.equal(crops[1], planes[1, :, 4:8, 0:4])
    anywhere = random_crops(planes[:1].expand(99, -1, -1, -1), 2, torch.Generator().manual_seed(0), grid=2)
    assert len({int(c[0, 0, 0]) for c in anywhere}) == 9
