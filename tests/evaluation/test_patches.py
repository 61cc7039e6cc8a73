"""Sliced Wasserstein distance against a loop, and by what it should tell apart."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import wasserstein_distance

from skiagraph.errors import EvaluationError
from skiagraph.evaluation import patches as module
from skiagraph.evaluation.patches import sliced_wasserstein

RNG = np.random.default_rng(0)


def pictures(n, sigma=1.5):
    return np.clip(ndimage.gaussian_filter(RNG.random((n, 64, 64)), (0, sigma, sigma)), 0, 1)


def test_distance_of_pieces_is_the_mean_of_one_dimensional_distances():
    a, b = torch.randn(6, 5, 49), torch.randn(6, 5, 49) * 2 + 1
    directions = torch.nn.functional.normalize(torch.randn(49, 7), dim=0)
    flat = [((x - x.mean()) / x.std()).reshape(-1, 49) @ directions for x in (a, b)]
    expected = np.mean([wasserstein_distance(flat[0][:, i].numpy(), flat[1][:, i].numpy()) for i in range(7)])
    assert module._distance(a, b, directions) == pytest.approx(1000 * expected, rel=1e-4)


def test_levels_add_up_to_the_picture():
    images = pictures(3).astype(np.float32)
    fine, coarse = module._pyramid(images, 32)
    enlarged = torch.nn.functional.interpolate(coarse[:, None], scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine + enlarged[:, 0], torch.from_numpy(images))


def test_blur_shows_in_the_fine_level_and_likeness_in_none():
    real, other, blurred = pictures(40), pictures(40), pictures(40, sigma=2.5)
    same, different = sliced_wasserstein(real, other), sliced_wasserstein(real, blurred)
    assert [r.name for r in same] == ["sliced Wasserstein 64 px", "sliced Wasserstein 32 px"]
    assert different[0].value > 3 * same[0].value
    assert same[0].low <= same[0].value <= same[0].high
    assert sliced_wasserstein(real, other)[1] == same[1]


@pytest.mark.parametrize("shape", [(3, 64, 64), (8, 48, 48), (8, 64, 32)])
def test_bad_input_is_named(shape):
    with pytest.raises(EvaluationError, match="expected"):
        sliced_wasserstein(np.zeros(shape), np.zeros(shape))
