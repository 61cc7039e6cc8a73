"""Membership inference finds a generator that repeats its training set, and nothing in one that does not."""

import numpy as np

from skiagraph.evaluation.membership import membership_inference


def test_repeated_training_pictures_are_told_and_fresh_ones_are_not():
    rng = np.random.default_rng(0)
    train, holdout = rng.normal(size=(2, 200, 8))
    fresh = rng.normal(size=(400, 8))
    repeated = train[rng.integers(200, size=400)] + 0.1 * rng.normal(size=(400, 8))
    honest = membership_inference(train, holdout, fresh, extractor="x")
    caught = membership_inference(train, holdout, repeated, extractor="x")
    assert honest.low < 0.5 < honest.high
    assert caught.low > 0.9
    assert caught.n == 400
