"""A fresh network tells different textures apart and equal ones not."""

import numpy as np
import pytest
from scipy import ndimage

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.two_sample import _halves, two_sample_test

SMALL = {"steps": 60, "crop": 32, "batch_size": 16}


def pictures(n, sigma, seed):
    noise = np.random.default_rng(seed).random((n, 48, 48))
    return np.clip(ndimage.gaussian_filter(noise, (0, sigma, sigma)), 0, 1)


def test_other_textures_are_told_and_equal_ones_are_not():
    real, same, other = pictures(60, 1.0, 0), pictures(60, 1.0, 1), pictures(60, 1.4, 2)
    groups = {"real_groups": np.arange(60), "synthetic_groups": np.arange(60)}
    told = two_sample_test(real, other, **groups, **SMALL)
    assert told.value > 0.95
    assert told.n == 60
    untold = two_sample_test(real, same, **groups, **SMALL)
    assert untold.low <= 0.5 <= untold.high
    assert two_sample_test(real, same, **groups, **SMALL) == untold


def test_a_group_is_in_one_half():
    groups = np.repeat(np.arange(10), 3)
    first = _halves(groups, seed=0)
    assert 0 < first.sum() < 30
    assert all(len(set(first[groups == g])) == 1 for g in range(10))


def test_bad_input_is_named():
    with pytest.raises(EvaluationError, match="smaller than crops"):
        two_sample_test(
            np.zeros((4, 32, 32)), np.zeros((4, 32, 32)), real_groups=np.arange(4), synthetic_groups=np.arange(4)
        )
    with pytest.raises(EvaluationError, match="cannot be halved"):
        two_sample_test(
            pictures(4, 1, 0), pictures(4, 1, 1), real_groups=np.zeros(4), synthetic_groups=np.arange(4), crop=32
        )
