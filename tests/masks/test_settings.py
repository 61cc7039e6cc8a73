import numpy as np
import pytest

import phantoms
from skiagraph.masks.crf import dense_crf, unary_from_probabilities
from skiagraph.masks.settings import DIFFUMASK, CRFWidths, thresholds

RNG = np.random.default_rng(0)


def test_the_papers_numbers():
    assert DIFFUMASK.thresholds == tuple(round(0.35 + 0.01 * i, 2) for i in range(20))
    assert DIFFUMASK.background == 0.45
    assert DIFFUMASK.label_crf == CRFWidths(3, 3, 60, 10, 9)
    assert DIFFUMASK.threshold_crf == CRFWidths(3, 3, 80, 13, 10)
    assert thresholds(0.2, 0.5, 0.1) == (0.2, 0.3, 0.4, 0.5)


def test_widths_in_position_follow_the_picture():
    image, _ = phantoms.thorax(RNG, side=128)
    foreground = RNG.uniform(0.1, 0.9, image.shape)
    unary = unary_from_probabilities(np.stack([1 - foreground, foreground]))
    literal = dense_crf(unary, image, gaussian_sxy=0.75, bilateral_sxy=20, bilateral_schan=13, bilateral_compat=10)
    assert DIFFUMASK.threshold_crf.crf(image).infer(unary) == pytest.approx(literal)
