"""Intervals that know patients and seeds, against simulation, and Holm against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skiagraph.errors import EvaluationError
from skiagraph.evaluation import MetricResult
from skiagraph.evaluation.statistics import grouped_mean, holm, paired_difference


def test_intervals_cover_the_truth_where_a_patients_images_are_alike():
    """Thirty patients of eight nearly equal images: most intervals hold 0; taken as 240 patients, far fewer do."""
    covered = {"patients": 0, "images": 0}
    for trial in range(60):
        rng = np.random.default_rng(trial)
        values = np.repeat(rng.normal(size=30), 8) + 0.1 * rng.normal(size=240)
        for name, groups in (("patients", np.repeat(np.arange(30), 8)), ("images", np.arange(240))):
            found = grouped_mean("x", values, groups, "higher", seed=trial)
            covered[name] += found.low <= 0 <= found.high
    assert covered["patients"] >= 51
    assert covered["images"] <= 40


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    cases = rng.normal(size=200)
    alike, apart = cases + np.zeros((3, 1)), cases + np.array([[-1.0], [0], [1]])
    narrow, wide = (grouped_mean("x", v, np.arange(200), "higher") for v in (alike, apart))
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert wide.details["seeds"] == 3


def test_a_paired_difference_sees_what_two_intervals_hide():
    rng = np.random.default_rng(0)
    other = rng.normal(size=(2, 100))
    ours = other + 0.1 + 0.05 * rng.normal(size=(2, 100))
    groups = np.arange(100) // 2
    first, second = (grouped_mean("Dice", v, groups, "higher") for v in (ours, other))
    assert first.low < second.high
    found = paired_difference("Dice", ours, other, groups, "higher")
    assert found.low > 0
    assert found.value == pytest.approx((ours - other).mean())
    assert found.details["p"] == pytest.approx(1 / 2000)
    assert paired_difference("Dice", other, other, groups, "higher").details["p"] == 1


def test_an_unequal_number_of_images_counts_by_image():
    values, groups = np.array([1.0, 1, 1, 5]), np.array(["a", "a", "a", "b"])
    assert grouped_mean("x", values, groups, "higher").value == 2


@settings(max_examples=50, deadline=None)
@given(arrays(float, st.integers(1, 8), elements=st.floats(0, 1)))
def test_holm_is_its_definition(p):
    corrected = holm(p)
    ranked = np.sort(p)
    for value, found in zip(p, corrected, strict=True):
        place = np.searchsorted(ranked, value, side="right")
        assert found == pytest.approx(min(1, max(ranked[k] * (len(p) - k) for k in range(place))))


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        (np.zeros((2, 3)), np.arange(4), "expected finite"),
        (np.array([0, np.nan]), np.arange(2), "expected finite"),
        (np.zeros(4), np.zeros(4), "one patient"),
    ],
)
def test_bad_input_is_named(values, groups, message):
    with pytest.raises(EvaluationError, match=message):
        grouped_mean("x", values, groups, "higher")
    with pytest.raises(EvaluationError, match="not pairs"):
        paired_difference("x", np.zeros(3), np.zeros((2, 3)), np.arange(3), "higher")


def test_a_result_shows_its_interval_with_as_many_digits_as_asked_for():
    result = MetricResult("dice", 0.91249, 0.9, 0.926, 8, "higher", extractor="net")
    assert result.shown(2) == "0.91 (0.90 to 0.93)"
    assert str(result) == "dice [net] 0.9125 (0.9000 to 0.9260), n = 8, higher is better"
