"""How alike are two images?"""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics import SSIMMetric

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, mean_result

WINDOW, SIGMA = 11, 1.5


def ssim(a: np.ndarray, b: np.ndarray, *, data_range: float, seed: int = 0) -> MetricResult:
    """Mean over image pairs of structural similarity, Gaussian 11x11 window of sigma 1.5 (Wang et al. 2004).

    Args:
        a: float (n, H, W), H and W at least 11.
        b: float (n, H, W).
        data_range: largest minus smallest value images can have, such as 1.0 for [0, 1]; never guessed.
        seed: of the bootstrap over pairs.

    Raises:
        EvaluationError: unequal or too small shapes. `details["values"]` has every pair's.
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if a.shape != b.shape or a.ndim != 3 or not len(a) or min(a.shape[1:]) < WINDOW:
        raise EvaluationError(f"images are {a.shape} and {b.shape}; expected equal (n, H, W), H and W >= {WINDOW}")
    metric = SSIMMetric(spatial_dims=2, data_range=data_range, win_size=WINDOW, kernel_sigma=SIGMA)
    pairs = zip(torch.from_numpy(a)[:, None].split(64), torch.from_numpy(b)[:, None].split(64), strict=True)
    values = torch.cat([metric(x, y) for x, y in pairs]).flatten().numpy()
    return mean_result("SSIM", values, "higher", seed)
