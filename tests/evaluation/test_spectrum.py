"""Power by frequency: of one wave in one ring, and of blurred pictures less where it is fine."""

import numpy as np
import pytest
from scipy import ndimage

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.spectrum import log_spectra, spectrum_distance

RNG = np.random.default_rng(0)


def textures(count, seed=0):
    noise = np.random.default_rng(seed).random((count, 64, 64))
    return ndimage.gaussian_filter(noise, (0, 1, 1))


@pytest.mark.parametrize("cycles", [3, 10, 25])
def test_a_wave_has_its_power_at_its_frequency(cycles):
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * cycles * np.arange(64) / 64)
    spectrum = log_spectra(np.broadcast_to(wave, (1, 64, 64)))[0]
    assert spectrum.shape == (32,)
    assert spectrum.argmax() + 1 == cycles


def test_white_noise_is_flat_and_blur_takes_the_fine_part():
    noise = RNG.random((40, 64, 64))
    flat = log_spectra(noise).mean(axis=0)
    assert np.ptp(flat[4:]) < 0.3
    blurred = log_spectra(ndimage.gaussian_filter(noise, (0, 2, 2))).mean(axis=0)
    assert blurred[-1] < flat[-1] - 5
    assert abs(blurred[0] - flat[0]) < 0.5


def test_distance_is_small_within_and_large_to_blurred():
    real, others = textures(60), textures(60, seed=1)
    within = spectrum_distance(log_spectra(real), log_spectra(others))
    apart = spectrum_distance(log_spectra(real), log_spectra(ndimage.gaussian_filter(others, (0, 1, 1))))
    assert within.value < 0.1 < apart.value
    assert within.high < apart.low
    assert within.low <= within.value <= within.high
    with pytest.raises(EvaluationError, match="spectra are"):
        spectrum_distance(log_spectra(real), log_spectra(real)[:, :5])
    with pytest.raises(EvaluationError, match="images are"):
        log_spectra(np.zeros((2, 8, 9)))
