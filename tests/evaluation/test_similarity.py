import numpy as np
import pytest

from skiagraph.errors import EvaluationError
from skiagraph.evaluation import ssim

RNG = np.random.default_rng(0)


def direct(a, b, data_range):
    """The definition, window by window (Wang et al. 2004, Eq. 13)."""
    offsets = np.arange(11) - 5
    kernel = np.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mp, mq = (kernel * p).sum(), (kernel * q).sum()
            vp, vq = (kernel * p * p).sum() - mp**2, (kernel * q * q).sum() - mq**2
            cov = (kernel * p * q).sum() - mp * mq
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return np.mean(values)


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_equals_its_definition(data_range):
    a = RNG.random((2, 18, 20)) * data_range
    b = (a + RNG.normal(0, 0.2 * data_range, a.shape)).clip(0, data_range)
    expected = [direct(x, y, data_range) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b, data_range=data_range).details["values"] == pytest.approx(expected, abs=2e-3)


def test_equal_images_are_one_and_shapes_are_checked():
    a = RNG.random((1, 16, 16))
    assert ssim(a, a, data_range=1.0).value == pytest.approx(1)
    with pytest.raises(EvaluationError, match="equal"):
        ssim(a, a[:, :12], data_range=1.0)
    with pytest.raises(EvaluationError, match="11"):
        ssim(a[:, :8], a[:, :8], data_range=1.0)
