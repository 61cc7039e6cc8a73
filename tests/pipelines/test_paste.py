"""What is put into a picture: nothing outside its region, no seam, the picture's own grain."""

import numpy as np
import pytest

from skiagraph.pipelines.paste import coarse, fade, one_way, with_change


def test_fade_is_zero_outside_and_one_inside():
    roi = np.zeros((40, 40), bool)
    roi[5:35, 5:35] = True
    weight = fade(roi, 6)
    assert not weight[~roi].any()
    assert weight[20, 20] == 1
    assert (np.diff(weight[20, :20]) >= 0).all()


@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 3)])
def test_a_smooth_change_keeps_the_grain_and_everything_outside(shape):
    rng, roi = np.random.default_rng(0), np.zeros((40, 40), bool)
    roi[5:35, 5:35] = True
    image = (0.4 + rng.normal(0, 0.02, shape)).astype(np.float32)
    made = with_change(image, np.full(shape, 0.2, np.float32), roi, 6)
    assert made.shape == shape
    assert np.array_equal(made[~roi], image[~roi])
    np.testing.assert_allclose((made - image)[12:28, 12:28], 0.2, atol=1e-6)


def test_coarse_change_sees_the_region_only_and_drops_what_is_fine():
    roi = np.zeros((60, 60), bool)
    roi[10:50, 10:50] = True
    y, x = np.mgrid[:60, :60]
    flat, fine = np.where(roi, 0.3, 99.0), 0.1 * (-1.0) ** (x + y)
    np.testing.assert_allclose(coarse(flat, roi, 4)[roi], 0.3, atol=1e-6)
    assert np.abs(coarse(fine, roi, 4)[roi]).max() < 0.02
    assert np.array_equal(coarse(fine, roi, 0), fine)
    both = coarse(np.stack([flat, fine, flat], axis=-1), roi, 4)
    np.testing.assert_allclose(both[..., 1], coarse(fine, roi, 4))


def test_a_change_goes_one_way_with_all_its_detail_and_nowhere_the_other():
    rng, roi = np.random.default_rng(0), np.ones((40, 240), bool)
    change = rng.normal(0, 0.1, roi.shape)
    change[:, :120] += 0.2
    change[:, 120:] -= 0.2
    denser, darker = (one_way(change, roi, direction) for direction in (1, -1))
    np.testing.assert_array_equal(denser[:, :80], change[:, :80])
    np.testing.assert_array_equal(darker[:, 160:], change[:, 160:])
    assert not denser[:, 160:].any()
    assert not darker[:, :80].any()
    assert one_way(change, roi, 0) is change
