import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from skiagraph.evaluation.classification import mean_auroc
from skiagraph.evaluation.statistics import grouped_mean, grouped_statistic


@given(st.integers(0, 10_000))
def test_equals_the_library_with_weights_ties_and_unknown_labels(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (30, 3)).astype(float)
    truth[:2] = [[0.0] * 3, [1.0] * 3]
    truth[2:][rng.random((28, 3)) < 0.2] = np.nan
    scores = rng.integers(0, 6, (2, 30, 3)) / 5
    weights = rng.integers(0, 4, 30).astype(float)
    weights[:2] = 1
    for row, found in zip(scores, mean_auroc(scores, truth)(weights), strict=True):
        known = ~np.isnan(truth)
        expected = [
            roc_auc_score(truth[k, i], row[k, i], sample_weight=weights[k]) for i, k in enumerate(known.T)
        ]  # fmt: skip
        assert found == pytest.approx(np.mean(expected))


def test_a_label_of_one_kind_does_not_count():
    truth = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    scores = np.array([[[3.0, 1.0], [1.0, 2.0], [2.0, 3.0]]])
    assert mean_auroc(scores, truth)(np.ones(3)) == [1.0]
    assert np.isnan(mean_auroc(scores, truth)(np.array([1.0, 0.0, 1.0]))).all()


def test_an_interval_holds_the_value_and_a_mean_is_a_statistic():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (80, 1)).astype(float)
    scores = truth[None] + rng.normal(size=(3, 80, 1))
    patients = np.repeat(np.arange(40), 2)
    found = grouped_statistic("AUROC", mean_auroc(scores, truth), patients, "higher")
    assert 0.5 < found.low < found.value < found.high < 1
    assert found.details["seeds"] == 3
    table = scores[:, :, 0]
    assert grouped_mean("x", table, patients, "higher") == grouped_statistic(
        "x", lambda w: table @ w / w.sum(), patients, "higher"
    )
