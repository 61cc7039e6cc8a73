import numpy as np
import pytest

import tiny
from skiagraph.errors import EvaluationError
from skiagraph.evaluation.perceptual import perceptual_distance
from skiagraph.models.finding_classifier import FindingClassifier


def test_the_distance_is_zero_of_equals_and_grows_with_the_change():
    classifier = tiny.random_weights(FindingClassifier(["a"], channels=(8, 16), working_size=32))
    rng = np.random.default_rng(0)
    images = rng.random((3, 32, 32)).astype(np.float32)
    noise = rng.normal(0, 1, images.shape).astype(np.float32)
    little, much = ((images + s * noise).clip(0, 1) for s in (0.02, 0.3))
    assert perceptual_distance(classifier, images, images).value == 0
    near, far = (perceptual_distance(classifier, images, x) for x in (little, much))
    assert 0 < near.value < far.value < 4
    assert near.extractor == "cxr-classifier"
    assert len(near.details["values"]) == near.n == 3
    with pytest.raises(EvaluationError, match="expected equal"):
        perceptual_distance(classifier, images, images[:2])
