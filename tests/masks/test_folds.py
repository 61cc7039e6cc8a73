import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skiagraph.masks.folds import agreement, best_share, folds


@given(st.integers(3, 40), st.integers(2, 3), st.integers(0, 9))
def test_folds_part_the_whole(count, parts, seed):
    seen = []
    for rest, part in folds(count, parts, seed):
        assert sorted([*rest, *part]) == list(range(count))
        assert len(part)
        seen += list(part)
    assert sorted(seen) == list(range(count))


def test_agreement_is_the_mean_iou_of_classes():
    a = np.array([[1, 1, 0, 2]])
    b = np.array([[1, 0, 0, 2]])
    assert agreement(a, b) == np.mean([0.5, 1.0])
    assert agreement(a, np.zeros_like(a)) == 0
    assert agreement(0 * a, 0 * a) == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 1))
def test_the_best_are_kept(scores, share):
    kept = best_share(np.array(scores), share)
    assert kept.sum() == max(1, round(share * len(scores)))
    if not kept.all():
        assert min(np.array(scores)[kept]) >= max(np.array(scores)[~kept])
