"""Do the small pieces of two sets of images look alike, size by size?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult

PATCH = 7
HALVES = 8


def sliced_wasserstein(
    real: np.ndarray, synthetic: np.ndarray, *, smallest: int = 32, patches: int = 64, slices: int = 256, seed: int = 0
) -> list[MetricResult]:
    """Sliced Wasserstein distance of 7x7 patches at each level of a Laplacian pyramid, times 1000.

    Karras et al. 2018 (arXiv 1710.10196, section 5). Compare only at equal n, beside a floor of real to real. The
    interval comes from half-samples, as that of the Frechet distance does.

    Args:
        real: (n, H, H) in [0, 1].
        synthetic: (m, H, H) in [0, 1]; as many as `real`'s are used, from the first.
        smallest: side of the coarsest level; H is that times a power of two.
        patches: of each image at each level.
        slices: random directions that patches are projected on.
        seed: of places, directions and halves.

    Returns:
        One result per level, the finest first, named "sliced Wasserstein SIDE px".

    Raises:
        EvaluationError: images of unequal sizes, or fewer than 4.
    """
    n = min(len(real), len(synthetic))
    sides = [smallest * 2**k for k in range(10)]
    if (
        real.shape[1:] != synthetic.shape[1:]
        or real.ndim != 3
        or n < 4
        or real.shape[1] != real.shape[2]
        or real.shape[1] not in sides
    ):
        raise EvaluationError(
            f"images are {real.shape} and {synthetic.shape}; expected (n, H, H), n at least 4, H {smallest} times 2^k"
        )
    generator = Generator().manual_seed(seed)
    levels = zip(_pyramid(real[:n], smallest), _pyramid(synthetic[:n], smallest), strict=True)
    results = []
    for a, b in levels:
        pieces = [_patches(x, patches, generator) for x in (a, b)]
        directions = F.normalize(torch.randn(PATCH**2, slices, generator=generator), dim=0)
        value = _distance(*pieces, directions)
        halves = [
            _distance(*(p[torch.randperm(n, generator=generator)[: n // 2]] for p in pieces), directions)
            for _ in range(HALVES)
        ]
        spread = 1.96 * float(np.std(halves, ddof=1))
        name = f"sliced Wasserstein {a.shape[-1]} px"
        results.append(MetricResult(name, value, max(0.0, value - spread), value + spread, n, "lower"))
    return results


def _pyramid(images: np.ndarray, smallest: int) -> list[Tensor]:
    """Laplacian levels (n, h, h), the finest first; the last is what is left."""
    x = torch.from_numpy(np.asarray(images, np.float32))[:, None]
    levels = []
    while x.shape[-1] > smallest:
        half = F.avg_pool2d(_blurred(x), 2)
        levels.append((x - F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False))[:, 0])
        x = half
    return [*levels, x[:, 0]]


def _blurred(x: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    x = F.conv2d(F.pad(x, (2, 2, 0, 0), mode="reflect"), kernel.view(1, 1, 1, 5))
    return F.conv2d(F.pad(x, (0, 0, 2, 2), mode="reflect"), kernel.view(1, 1, 5, 1))


def _patches(images: Tensor, count: int, generator: Generator) -> Tensor:
    """(n, count, PATCH^2) at random places of (n, h, h)."""
    n, side = images.shape[0], images.shape[-1]
    corner = torch.randint(side - PATCH + 1, (2, n, count, 1, 1), generator=generator)
    rows = corner[0] + torch.arange(PATCH)[:, None]
    columns = corner[1] + torch.arange(PATCH)
    return images[torch.arange(n)[:, None, None, None], rows, columns].flatten(2)


def _distance(a: Tensor, b: Tensor, directions: Tensor) -> float:
    projected = []
    for pieces in (a, b):
        flat = pieces.flatten(0, 1)
        flat = (flat - flat.mean()) / flat.std().clamp_min(1e-6)
        # NumPy sorts rows some twenty times as fast as torch sorts columns.
        projected.append(np.sort((directions.T @ flat.T).numpy(), axis=1))
    return 1000 * float(np.abs(projected[0] - projected[1]).mean())
