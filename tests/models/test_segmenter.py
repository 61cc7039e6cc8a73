"""Classes of parts that show and parts that are hidden."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from skiagraph.errors import ModelError
from skiagraph.models.segmenter import Segmenter, united


@given(classes=st.integers(1, 4), seed=st.integers(0, 1000))
def test_probabilities_of_united_parts_add_up(classes, seed):
    outputs = 3 * torch.randn(2, 1 + 2 * classes, 4, 5, generator=torch.Generator().manual_seed(seed))
    parts = outputs.softmax(dim=1)
    found = united(outputs, torch.tensor([True, False])).softmax(dim=1)
    shown, hidden = parts[:, 1 : 1 + classes], parts[:, 1 + classes :]
    torch.testing.assert_close(found[0, 1:], (shown + hidden)[0])
    torch.testing.assert_close(found[0, 0], parts[0, 0])
    torch.testing.assert_close(found[1, 1:], shown[1])
    torch.testing.assert_close(found[1, 0], parts[1, 0] + hidden[1].sum(dim=0))


def segmenter(hidden):
    return tiny.random_weights(Segmenter(channels=(4, 8, 8), working_size=32, hidden=hidden), seed=3).eval()


def test_a_model_counts_hidden_parts_as_it_was_made_to_or_as_asked():
    images = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, shown = segmenter("counted"), segmenter("left out")
    assert whole(images).shape == (2, 3, 48, 48)
    assert not torch.equal(whole(images), shown(images))
    torch.testing.assert_close(whole(images, torch.tensor([False, False])), shown(images))
    mixed = shown.segment(images, torch.tensor([True, False]))
    assert torch.equal(mixed[0], whole.segment(images)[0])
    assert torch.equal(mixed[1], shown.segment(images)[1])


def test_other_words_for_hidden_parts_are_refused():
    with pytest.raises(ModelError, match="counted or left out"):
        Segmenter(hidden="seen")
