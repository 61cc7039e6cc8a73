"""What looks at many pictures gives the same in blocks as at once."""

import numpy as np

import skiagraph.evaluation.vectors as vectors
from skiagraph.evaluation.copies import CopyCheck, nearest_neighbours


def both(monkeypatch, compute):
    whole = compute()
    monkeypatch.setattr(vectors, "BLOCK", 7)
    return whole, compute()


def test_neighbours_and_scores_do_not_depend_on_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    train, holdout, made = (rng.normal(size=(n, 6)) for n in (30, 25, 40))
    whole, parts = both(monkeypatch, lambda: nearest_neighbours(made, train))
    assert np.allclose(whole[0], parts[0])
    assert np.array_equal(whole[1], parts[1])

    def checked():
        groups = {"train_groups": np.arange(30), "holdout_groups": 100 + np.arange(25) // 2}
        check = CopyCheck(train, holdout, extractor="x", **groups)
        return check.threshold, check.scores(made)

    (threshold, scores), (again, others) = both(monkeypatch, checked)
    assert np.isclose(threshold, again)
    assert np.allclose(scores, others)
