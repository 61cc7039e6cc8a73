import warnings

import numpy as np
import pytest
import torch
from monai.metrics.fid import get_fid_score
from scipy import linalg
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import polynomial_kernel

from skiagraph.errors import EvaluationError
from skiagraph.evaluation import auroc, bootstrap, frechet_distance, frechet_radiomics_distance, kernel_distance

RNG = np.random.default_rng(0)


def test_frechet_distance_equals_the_definition():
    a, b = RNG.normal(size=(200, 6)), RNG.normal(0.5, 2, size=(150, 6))
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * linalg.sqrtm(ca @ cb).real)
    result = frechet_distance(a, b, extractor="x")
    assert result.value == pytest.approx(expected)
    assert result.low <= result.value <= result.high
    assert frechet_distance(b, a, extractor="x").value == pytest.approx(expected)


@pytest.mark.parametrize("n", [20, 200])
def test_frechet_distance_is_that_of_monai_with_fewer_samples_than_features_or_more(n):
    a, b = RNG.normal(size=(n, 40)), RNG.normal(0.5, 2, size=(n, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = frechet_distance(a, b, extractor="x").value
    expected = float(get_fid_score(torch.from_numpy(a), torch.from_numpy(b)))
    assert found == pytest.approx(expected, rel=1e-4)


def test_radiomics_distance_is_the_frechet_distance_in_units_of_the_real_ones():
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(60, 3)) * [1, 100, 0.01], rng.normal(size=(60, 3)) * [1, 120, 0.01] + [0, 50, 0]
    units = [(x - real.mean(axis=0)) / real.std(axis=0) for x in (real, made)]
    expected = np.log(frechet_distance(*units, extractor="x").value)
    constant = [np.concatenate([x, np.full((60, 1), 7.0)], axis=1) for x in (real, made)]
    for sides in ((real, made), constant, ((real * 1000, made * 1000))):
        assert frechet_radiomics_distance(*sides, extractor="x").value == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_is_that_of_torchmetrics():
    poly_mmd = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    a, b = RNG.normal(size=(60, 8)), RNG.normal(0.3, 1, size=(60, 8))
    expected = float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b)))
    assert kernel_distance(a, b, extractor="x").value == pytest.approx(expected, abs=1e-4)


def test_frechet_distance_of_equal_sets_is_zero_and_few_samples_warn():
    a = RNG.normal(size=(50, 4))
    assert frechet_distance(a, a, extractor="x").value == pytest.approx(0, abs=1e-6)
    with pytest.warns(UserWarning, match="singular"):
        frechet_distance(RNG.normal(size=(6, 9)), RNG.normal(size=(6, 9)), extractor="x")


def test_kernel_distance_equals_the_definition():
    a, b = RNG.normal(size=(40, 5)), RNG.normal(0.3, 1, size=(30, 5))
    kaa, kbb, kab = (polynomial_kernel(x, y, 3, 1 / 5, 1) for x, y in ((a, a), (b, b), (a, b)))
    off = [k[~np.eye(len(k), dtype=bool)].mean() for k in (kaa, kbb)]
    assert kernel_distance(a, b, extractor="x").value == pytest.approx(sum(off) - 2 * kab.mean())


def test_kernel_distance_is_unbiased_and_grows():
    values = [kernel_distance(*RNG.normal(size=(2, 60, 8)), extractor="x").value for _ in range(40)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 40**0.5
    far = kernel_distance(RNG.normal(size=(60, 8)), RNG.normal(1, 1, size=(60, 8)), extractor="x")
    assert far.low > max(values)


@pytest.mark.parametrize("n", [60, 100, 250])
def test_kernel_distance_s_interval_is_as_wide_as_fresh_samples_vary(n):
    rng = np.random.default_rng(n)
    found = [kernel_distance(rng.normal(size=(n, 8)), rng.normal(0.5, 1, (n, 8)), extractor="x") for _ in range(60)]
    spread = np.mean([(f.high - f.low) / 2 / 1.96 for f in found])
    assert np.std([f.value for f in found]) == pytest.approx(spread, rel=0.3)


def test_auroc_by_pairs():
    y, s = RNG.integers(0, 2, 80), RNG.normal(size=80)
    pairs = (s[y == 1][:, None] > s[y == 0][None]).mean()
    result = auroc(y, s)
    assert result.value == pytest.approx(pairs)
    assert result.low < pairs < result.high


def test_auroc_with_ties_is_that_of_scikit_learn():
    y, s = RNG.integers(0, 2, 200), RNG.integers(0, 5, 200).astype(float)
    assert auroc(y, s).value == pytest.approx(roc_auc_score(y, s))


def test_bootstrap_covers_a_known_mean():
    hits = 0
    for seed in range(100):
        low, high = bootstrap(np.mean, np.random.default_rng(seed).normal(size=40), resamples=200, seed=seed)
        hits += low <= 0 <= high
    assert 85 <= hits <= 99


@pytest.mark.parametrize(
    "call",
    [
        lambda: frechet_distance(np.zeros((3, 2)), np.zeros((3, 4)), extractor="x"),
        lambda: frechet_distance(np.zeros((3, 2)), np.zeros((3, 2)), extractor="x"),
        lambda: kernel_distance(np.full((3, 2), np.nan), np.zeros((3, 2)), extractor="x"),
        lambda: auroc(np.ones(4), np.ones(4)),
        lambda: auroc(np.array([0, 1]), np.ones(3)),
    ],
)
def test_bad_input_is_named(call):
    with pytest.raises(EvaluationError):
        call()
