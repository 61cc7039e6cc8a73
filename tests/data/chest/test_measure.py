import numpy as np
import pytest

from skiagraph.data.chest.anatomy import regions_of
from skiagraph.data.chest.measure import MEASURE_NAMES, cohort_name, fit_cohorts, measure, standard_scores


def thorax(size=96):
    """Bright thorax with two dark lungs and a bright heart strip."""
    right, left = np.zeros((2, size, size), bool)
    right[20:74, 10:42] = True
    left[20:74, 54:86] = True
    pixels = np.full((size, size), 0.9, np.float32)
    pixels[right | left] = 0.2
    return pixels, regions_of(right, left)


def test_every_measure_is_given_and_finite():
    pixels, regions = thorax()
    values = measure(pixels, regions)
    assert tuple(values) == MEASURE_NAMES
    assert np.isfinite(list(values.values())).all()
    assert values["area ratio"] == pytest.approx(0)
    assert values["lung height"] == pytest.approx(54 / 96)


def test_opacity_raises_the_density_of_its_zone_only():
    pixels, regions = thorax()
    before = measure(pixels, regions)
    opaque = pixels.copy()
    opaque[regions["left lower zone"]] = 0.8
    after = measure(opaque, regions)
    changed = [n for n in MEASURE_NAMES if n.startswith("density") and abs(after[n] - before[n]) > 0.05]
    assert changed == ["density left lower zone"]


def test_density_does_not_depend_on_exposure():
    pixels, regions = thorax()
    pixels[regions["right mid zone"]] = 0.5
    bright = measure(pixels, regions)
    dark = measure(0.1 + 0.5 * pixels, regions)
    assert dark == pytest.approx(bright, abs=1e-4)


def test_wider_heart_measures_wider():
    pixels, regions = thorax()
    before = measure(pixels, regions)["heart width"]
    pixels[45:74, 30:70] = 0.9
    assert measure(pixels, regions)["heart width"] > before + 0.15


def test_scores_of_the_cohort_have_mean_zero_and_deviation_one():
    rng = np.random.default_rng(0)
    rows = [("child", dict(zip(MEASURE_NAMES, rng.normal(3, 2, len(MEASURE_NAMES)), strict=True))) for _ in range(50)]
    cohorts = fit_cohorts(rows)
    scores = np.array([list(standard_scores(values, cohorts["child"]).values()) for _, values in rows])
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=1e-9)


def test_cohort_names_and_fallbacks():
    assert cohort_name(True, "PA") == "child"
    assert cohort_name(False, "AP") == "adult AP"
    assert cohort_name(None, None) == "adult PA"
    assert cohort_name(False, "AP", ["child", "adult PA"]) == "adult PA"
    assert cohort_name(True, None, ["adult PA"]) == "adult PA"
