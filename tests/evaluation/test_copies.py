"""Copies are found where they are planted, also among pictures that are far from every real one."""

import numpy as np
import pytest

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.copies import ALTERATIONS, CopyCheck, nearest_neighbours, thumbnails

RNG = np.random.default_rng(0)
TRAIN, HOLDOUT, FRESH = (RNG.normal(size=(n, 24)) for n in (300, 200, 200))


def check(**more):
    groups = {"train_groups": np.arange(300), "holdout_groups": np.arange(300, 500)}
    return CopyCheck(TRAIN, HOLDOUT, extractor="x", **{**groups, **more})


def test_fresh_pictures_are_copies_by_chance_only_and_copies_are_found():
    found = check().share(FRESH)
    assert found.low <= found.details["chance"] == pytest.approx(0.05)
    copies = check().share(TRAIN[:50] + 0.01)
    assert copies.value == 1
    assert copies.details["nearest"] == list(range(50))


def test_pictures_far_from_all_real_ones_do_not_hide_copies():
    """Generated pictures share a fault that no real one has; a threshold on similarity itself then finds no copy."""
    rng = np.random.default_rng(1)
    train, holdout, fresh = (np.pad(rng.normal(size=(n, 64)), ((0, 0), (0, 1))) for n in (300, 200, 200))
    fault = 25 * np.eye(65)[64]
    plain = np.quantile(nearest_neighbours(holdout, train)[0], 0.95)
    assert (nearest_neighbours(train[:50] + fault, train)[0] > plain).mean() < 0.1
    found = CopyCheck(train, holdout, extractor="x", train_groups=np.arange(300), holdout_groups=np.arange(300, 500))
    assert found.share(train[:50] + fault).value > 0.9
    assert found.share(fresh + fault).value < 0.1


def test_the_power_is_reported_by_kind():
    found = check().share(FRESH, {"itself": TRAIN[:40], "unrelated": RNG.normal(size=(40, 24))}).details["found"]
    assert found["itself"] == 1
    assert found["unrelated"] < 0.2


def test_a_patients_own_images_do_not_count_as_others():
    """Twins in the held-out set would make everybody there look well known among the others."""
    twins = np.repeat(HOLDOUT[:100], 2, axis=0)
    alone = CopyCheck(
        TRAIN, twins, extractor="x", train_groups=np.arange(300), holdout_groups=np.repeat(np.arange(300, 400), 2)
    )
    mixed = CopyCheck(TRAIN, twins, extractor="x", train_groups=np.arange(300), holdout_groups=np.arange(300, 500))
    assert alone.threshold > mixed.threshold + 1


def test_patients_on_both_sides_are_refused():
    with pytest.raises(EvaluationError, match="patients are in train and holdout"):
        check(holdout_groups=np.arange(200))
    with pytest.raises(EvaluationError, match="one held-out patient"):
        check(holdout_groups=np.full(200, 999))


def test_altered_pictures_stay_pictures_and_their_thumbnails_stay_near():
    from scipy import ndimage

    images = ndimage.gaussian_filter(RNG.random((30, 64, 64)), (0, 6, 6))
    images = (images - images.min()) / np.ptp(images)
    for name, alter in ALTERATIONS.items():
        altered = alter(images, np.random.default_rng(0))
        assert altered.shape == images.shape, name
        assert 0 <= altered.min() <= altered.max() <= 1, name
        assert not np.array_equal(altered, images), name
        bank = np.concatenate([thumbnails(images), thumbnails(images[..., ::-1])])
        assert (nearest_neighbours(thumbnails(altered), bank)[1] % 30 == np.arange(30)).mean() > 0.9, name
