"""The lung segmenter and the finding classifier."""

import pytest
import torch

import tiny
from skiagraph.errors import ModelError
from skiagraph.models.finding_classifier import FindingClassifier


def test_segmenter_answers_at_the_size_of_its_input():
    segmenter = tiny.lung_segmenter()
    images = torch.rand(2, 1, 50, 70) * 2 - 1
    assert segmenter(images).shape == (2, 3, 50, 70)
    classes = segmenter.segment(images)
    assert classes.dtype == torch.uint8
    assert torch.equal(classes, segmenter(images).argmax(dim=1))


def test_classifier_features_are_what_its_head_reads():
    classifier = tiny.random_weights(FindingClassifier(("a", "b"), channels=(8, 16), working_size=32))
    images = torch.rand(3, 1, 48, 48) * 2 - 1
    features = classifier.features(images)
    assert features.shape == (3, 32)
    torch.testing.assert_close(classifier.head(features), classifier(images))


@pytest.mark.parametrize("shape", [(2, 48, 48), (2, 3, 48, 48)])
def test_other_shapes_are_refused(shape):
    for network in (tiny.lung_segmenter(), FindingClassifier(("a",), channels=(8, 8))):
        with pytest.raises(ModelError, match="expected"):
            network(torch.zeros(shape))
