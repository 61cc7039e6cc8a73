"""What is put into a picture: nothing outside its region, no seam, the picture's own grain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skiagraph.pipelines.paste import coarse, covering, fade, one_way, tissue_levels, with_change


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


@given(
    arrays(np.float32, (24, 24), elements=st.floats(0, 1, width=32)),
    arrays(np.float32, (24, 24), elements=st.floats(-1, 1, width=32)),
    st.floats(0, 0.9),
    st.floats(0, 0.1),
)
def test_nothing_made_denser_passes_the_levels_and_nothing_else_is_levelled(image, change, low, room):
    roi = np.zeros(image.shape, bool)
    roi[4:20, 4:20] = True
    plain, made = with_change(image, change, roi, 3), with_change(image, change, roi, 3, (low, low + room))
    assert np.array_equal(made[~roi], image[~roi])
    assert (made <= plain + 1e-6).all()
    assert (made <= np.maximum(image, low + room) + 1e-5).all()
    same = (change <= 0) | (plain <= low)
    np.testing.assert_allclose(made[same], plain[same], atol=1e-6)
    assert (made >= image - 1e-6)[change > 0].all()


def test_detail_fades_as_a_place_comes_near_soft_tissue():
    ramp, roi = np.tile(np.linspace(0.1, 0.9, 64), (64, 1)), np.ones((64, 64), bool)
    grain = 0.02 * (-1.0) ** np.add(*np.mgrid[:64, :64])
    image = (0.3 + grain).astype(np.float32)
    made = with_change(image, ramp - 0.3, roi, 1, (0.5, 0.7))
    contrast = np.abs(np.diff(made, axis=0)).mean(axis=0)
    assert contrast[20] == pytest.approx(0.04, abs=1e-3)
    assert contrast[50] < 0.015
    assert (np.diff(made[:2].mean(axis=0)[2:-2]) > -1e-6).all()


def test_levels_are_those_of_organs_and_what_lies_around_them():
    image, organs = np.zeros((100, 100), np.float32), np.zeros((100, 100), bool)
    organs[30:70, 30:70] = True
    image[25:75, 25:75] = 0.8
    image[30:70, 30:70] = 0.4
    image[:10] = 1.0  # a marker far from them
    low, high = tissue_levels(image, organs)
    assert low == pytest.approx(0.4)
    assert high == pytest.approx(0.8)


def test_a_denser_change_covers_and_a_darker_one_stays():
    rng, roi = np.random.default_rng(0), np.ones((80, 240), bool)
    change = rng.normal(0, 0.05, roi.shape)
    change[:, :120] += 0.3
    change[:, 120:] -= 0.3
    change[40:43, 60:63] = -0.2
    made, even = covering(change, roi), coarse(change, roi, 8)
    assert (made >= change).all()
    assert (made[:, :90] >= even[:, :90] - 1e-6).all()
    assert made[41, 61] > 0.2
    np.testing.assert_array_equal(made[:, 160:], change[:, 160:])
