"""How much of a picture lies at which scale: power by spatial frequency."""

from __future__ import annotations

import numpy as np

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap

FLOOR = 1e-8
"""Added to power before its logarithm: an eight-bit picture has no finer steps."""


def log_spectra(images: np.ndarray) -> np.ndarray:
    """Logarithms of mean power in rings of one cycle per picture, float32 (n, H / 2), of images (n, H, H) in [0, 1].

    They are natural. A Hann window keeps the borders out; each picture's mean is taken away.
    """
    images = np.asarray(images, np.float64)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise EvaluationError(f"images are {images.shape}; expected (n, H, H)")
    side = images.shape[1]
    window = np.hanning(side)[:, None] * np.hanning(side)[None]
    centred = (images - images.mean(axis=(1, 2), keepdims=True)) * window
    power = np.abs(np.fft.fftshift(np.fft.fft2(centred), axes=(1, 2))) ** 2 / side**2
    axis = np.arange(side) - side // 2
    ring = np.round(np.hypot(axis[:, None], axis[None])).astype(int)
    wanted = (ring >= 1) & (ring <= side // 2)
    counts = np.bincount(ring[wanted] - 1)
    sums = np.stack([np.bincount(ring[wanted] - 1, weights=p[wanted]) for p in power])
    return np.log(sums / counts + FLOOR).astype(np.float32)


def spectrum_distance(real: np.ndarray, synthetic: np.ndarray, *, seed: int = 0) -> MetricResult:
    """Mean over frequencies of |difference of the mean log spectra|, of `log_spectra` (n, f) and (m, f).

    0.1 is a tenth more or less power. `details` holds both means, the finest frequency last.
    """
    if real.shape[1:] != synthetic.shape[1:] or min(len(real), len(synthetic)) < 2:
        raise EvaluationError(f"spectra are {real.shape} and {synthetic.shape}; expected (n, f) and (m, f), 2 at least")

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a.mean(axis=0) - b.mean(axis=0)).mean())

    n = min(len(real), len(synthetic))
    low, high = bootstrap(statistic, real[:n], synthetic[:n], resamples=300, seed=seed)
    value = statistic(real, synthetic)
    # A resampled mean is off by chance in every frequency, which adds to an absolute distance; so it bounds from above.
    details = {"real": real.mean(axis=0).tolist(), "synthetic": synthetic.mean(axis=0).tolist()}
    return MetricResult("spectrum distance", value, min(low, value), high, n, "lower", details=details)
