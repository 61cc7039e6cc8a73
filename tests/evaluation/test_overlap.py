import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.distance import cdist

from skiagraph.errors import EvaluationError
from skiagraph.evaluation import dice, hd95, iou, pooled_iou
from skiagraph.evaluation.overlap import overlaps, pooled, surface_distance

MASKS = arrays(bool, st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)))


def by_hand(a, b):
    both, one = np.sum(a & b), np.sum(a | b)
    return (2 * both / (a.sum() + b.sum()), both / one) if one else (1.0, 1.0)


@settings(deadline=None, max_examples=40)
@given(MASKS, st.randoms(use_true_random=False))
def test_dice_and_iou_equal_their_definitions(a, rng):
    b = np.array([[[rng.random() < 0.5 for _ in row] for row in image] for image in a])
    b[0] &= rng.random() < 0.7
    expected = np.array([by_hand(x, y) for x, y in zip(a, b, strict=True)])
    assert dice(a, b).details["values"] == pytest.approx(expected[:, 0])
    assert iou(a, b).value == pytest.approx(expected[:, 1].mean())
    assert pooled_iou(a, b).value == pytest.approx(by_hand(a, b)[1])
    assert [r.value for r in pooled(*overlaps(a, b))] == pytest.approx(by_hand(a, b))


def border(mask):
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def test_distances_of_borders_equal_those_by_hand():
    rng = np.random.default_rng(0)
    a = np.stack([ndimage.gaussian_filter(rng.normal(size=(40, 50)), 4) > 0.02 for _ in range(5)])
    b = np.stack([ndimage.binary_dilation(np.roll(m, 3, axis=1), iterations=2) for m in a])
    expected, means = [], []
    for x, y in zip(a, b, strict=True):
        distances = cdist(border(x), border(y))
        expected.append(max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95)))
        means.append(np.concatenate([distances.min(axis=1), distances.min(axis=0)]).mean())
    assert surface_distance(a, b).details["values"] == pytest.approx(means, abs=0.3)
    assert hd95(a, b).details["values"] == pytest.approx(expected, abs=0.5)
    assert hd95(a, b, spacing=0.5).value == pytest.approx(hd95(a, b).value / 2)


def test_empty_masks():
    empty, full = np.zeros((1, 30, 40), bool), np.ones((1, 30, 40), bool)
    assert (dice(empty, empty).value, iou(empty, empty).value, pooled_iou(empty, empty).value) == (1, 1, 1)
    assert (dice(empty, full).value, iou(full, empty).value) == (0, 0)
    assert hd95(empty, empty).value == 0
    assert hd95(empty, full).value == surface_distance(empty, full).value == 50
    assert surface_distance(full, full).value == 0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool)),
        (np.zeros((2, 4, 4), bool), np.zeros((2, 4, 5), bool)),
        (np.zeros((4, 4), bool), np.zeros((4, 4), bool)),
        (np.zeros((0, 4, 4), bool), np.zeros((0, 4, 4), bool)),
    ],
)
def test_other_masks_are_refused(a, b):
    with pytest.raises(EvaluationError, match="bool"):
        dice(a, b)
