import numpy as np
import pytest

from phantoms import thorax
from skiagraph.data.chest.threshold_lungs import threshold_lungs


@pytest.mark.parametrize("side", [64, 150])
def test_two_dark_lungs_are_found_on_their_sides(side):
    pixels, mask = thorax(np.random.default_rng(0), side)
    right, left = threshold_lungs(pixels / 255)
    assert right.shape == left.shape == (side, side)
    for found, half in ((right, slice(side // 2)), (left, slice(side // 2, None))):
        true = np.zeros((side, side), bool)
        true[:, half] = mask[:, half] > 0
        assert (found & true).sum() > 0.75 * (found | true).sum()


def test_one_lung_or_none_is_no_answer():
    pixels, _ = thorax(np.random.default_rng(0))
    pixels[:, 32:] = 200
    assert threshold_lungs(pixels / 255) is None
    assert threshold_lungs(np.full((64, 64), 0.5)) is None
