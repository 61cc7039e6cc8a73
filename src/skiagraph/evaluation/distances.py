"""Distances between sets of features: Frechet and kernel distance. The extractor is always named."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from scipy import linalg

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, features_of
from skiagraph.evaluation.vectors import blocks

SUBSETS = 100

FEWEST = 4
"""Samples on a side, of which half are still two."""


def frechet_distance(real: np.ndarray, synthetic: np.ndarray, *, extractor: str, seed: int = 0) -> MetricResult:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of features (n, d) (Heusel et al. 2017, arXiv 1706.08500).

    The value depends on n: compare only at equal n, and beside a floor of real to real. The interval comes from 30
    half-samples without replacement, centred on the value, since resampling with replacement biases it upwards.
    Warns where n < d, for the covariance is then singular.
    """
    real, synthetic = _pair(real, synthetic)
    n, d = min(len(real), len(synthetic)), real.shape[1]
    if n < d:
        warnings.warn(f"{n} samples of {d} features: the covariance is singular; use the kernel distance", stacklevel=2)
    value = _frechet(real, synthetic)
    rng = np.random.default_rng(seed)
    halves = [_frechet(_half(real, rng), _half(synthetic, rng)) for _ in range(30)]
    # Half-samples vary by sqrt(2) more than full samples do, less the finite-population share: the two cancel.
    spread = 1.96 * float(np.std(halves, ddof=1))
    return MetricResult(
        "Frechet distance", value, max(0.0, value - spread), value + spread, n, "lower", extractor=extractor
    )


def frechet_radiomics_distance(
    real: np.ndarray, synthetic: np.ndarray, *, extractor: str, seed: int = 0
) -> MetricResult:
    """log of the squared Frechet distance of radiomics (n, d) (Konz and Osuala et al., Medical Image Analysis 2026).

    Each feature is first brought to mean 0 and deviation 1 of the real ones; one that never varies in them counts
    nothing. Value and interval depend on n as `frechet_distance`'s do.
    """
    real, synthetic = _pair(real, synthetic)
    mean, spread = real.mean(axis=0), real.std(axis=0)
    sides = [np.divide(x - mean, spread, out=np.zeros_like(x), where=spread > 0) for x in (real, synthetic)]
    found = frechet_distance(*sides, extractor=extractor, seed=seed)
    value, low, high = (float(np.log(max(x, 1e-12))) for x in (found.value, found.low, found.high))
    return replace(found, name="Frechet radiomics distance", value=value, low=low, high=high)


def kernel_distance(
    real: np.ndarray, synthetic: np.ndarray, *, extractor: str, subset_size: int = 100, seed: int = 0
) -> MetricResult:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, arXiv 1801.01401, section 4).

    The value is over all features (n, d). The interval is normal, with the standard deviation over subsets of
    `subset_size`, half of n at most, scaled to n: an approximation, for the variance of the estimator falls at least as
    fast as 1 / n. Subsets that share rows with each other vary less than fresh ones do, which is put right.
    """
    real, synthetic = _pair(real, synthetic)
    n = min(len(real), len(synthetic))
    size = min(subset_size, n // 2)
    rng = np.random.default_rng(seed)
    draws = [(rng.permutation(len(real))[:size], rng.permutation(len(synthetic))[:size]) for _ in range(SUBSETS)]
    subsets = np.array([_mmd(real[i], synthetic[j]) for i, j in draws])
    value = _mmd(real, synthetic)
    share = size / n
    spread = 1.96 * float(subsets.std(ddof=1)) * np.sqrt(share / (1 - share))
    return MetricResult("kernel distance", value, value - spread, value + spread, n, "lower", extractor=extractor)


def _pair(real: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    real, synthetic = features_of("real", real), features_of("synthetic", synthetic)
    if real.shape[1] != synthetic.shape[1]:
        raise EvaluationError(f"features have {real.shape[1]} and {synthetic.shape[1]} columns; use one extractor")
    if (n := min(len(real), len(synthetic))) < FEWEST:
        raise EvaluationError(f"{n} samples are too few for a distance; give at least {FEWEST} on each side")
    return real, synthetic


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
    (ma, xa), (mb, xb) = ((x.mean(axis=0), (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)) for x in (a, b))
    traces = np.square(xa).sum() + np.square(xb).sum()
    return float(np.square(ma - mb).sum() + traces - 2 * _trace_of_root(xa, xb))


def _trace_of_root(a: np.ndarray, b: np.ndarray) -> float:
    """tr((A^T A B^T B)^1/2), also the sum of the singular values of A B^T, which is smaller where samples are few."""
    if min(len(a), len(b)) < a.shape[1]:
        return float(linalg.svdvals(a @ b.T).sum())
    return float(np.sqrt(np.clip(linalg.eigvals((a.T @ a) @ (b.T @ b)).real, 0, None)).sum())


def _mmd(a: np.ndarray, b: np.ndarray) -> float:
    n, m = len(a), len(b)
    aa, bb = (_kernel_sum(x, x) - ((np.square(x).sum(axis=1) / x.shape[1] + 1) ** 3).sum() for x in (a, b))
    return float(aa / (n * (n - 1)) + bb / (m * (m - 1)) - 2 * _kernel_sum(a, b) / (n * m))


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    """Sum over all pairs of (x.y / d + 1)^3, some rows at a time."""
    parts = (a[rows] for rows in blocks(len(a)))
    return float(sum(((part @ b.T / a.shape[1] + 1) ** 3).sum() for part in parts))


def _half(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return features[rng.choice(len(features), len(features) // 2, replace=False)]
