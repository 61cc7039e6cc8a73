"""What is put into a picture: nothing outside its region, no seam, the picture's own grain."""

import numpy as np
import pytest

from skiagraph.pipelines.paste import fade, with_change


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
