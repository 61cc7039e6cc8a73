"""Precision, recall, density and coverage against the published package, on equal features."""

import numpy as np
import pytest

import skiagraph.evaluation.vectors as vectors
from skiagraph.errors import EvaluationError
from skiagraph.evaluation.neighbours import prdc


def sets(seed=0, shift=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(120, 6)), rng.normal(size=(90, 6)) + shift


@pytest.mark.parametrize("nearest", [3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_values_are_those_of_the_published_package(nearest, shift):
    published = pytest.importorskip("prdc").compute_prdc
    real, synthetic = sets(shift=shift)
    expected = published(real, synthetic, nearest_k=nearest)
    found = {r.name: r.value for r in prdc(real, synthetic, extractor="x", nearest=nearest)}
    assert found == pytest.approx(expected, abs=1e-9)


def test_blocks_do_not_change_them(monkeypatch):
    whole = prdc(*sets(), extractor="x")
    monkeypatch.setattr(vectors, "BLOCK", 7)
    assert [r.value for r in prdc(*sets(), extractor="x")] == [r.value for r in whole]


def test_one_mode_alone_is_precise_and_covers_little():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(300, 4))
    synthetic = 0.05 * rng.normal(size=(300, 4))
    found = {r.name: r.value for r in prdc(real, synthetic, extractor="x")}
    assert found["precision"] > 0.95
    assert found["recall"] < 0.1
    assert found["coverage"] < 0.3


def test_intervals_hold_the_value_and_wrong_sets_are_named():
    for result in prdc(*sets(), extractor="x"):
        assert result.low <= result.value <= result.high
    real, synthetic = sets()
    with pytest.raises(EvaluationError, match="more than 5"):
        prdc(real[:5], synthetic, extractor="x")
    with pytest.raises(EvaluationError, match="one width"):
        prdc(real[:, :3], synthetic, extractor="x")
