"""A perceptual distance on the shipped classifier's feature maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.features import EXTRACTOR
from skiagraph.evaluation.result import MetricResult, bootstrap
from skiagraph.models.finding_classifier import FindingClassifier


@torch.no_grad()
def perceptual_distance(
    classifier: FindingClassifier, a: np.ndarray, b: np.ndarray, *, extractor: str = EXTRACTOR, seed: int = 0
) -> MetricResult:
    """Mean over pairs of the squared distance of unit-length feature maps, averaged over stages (arXiv 1801.03924).

    LPIPS without its learned weights and on this project's classifier, so not comparable with published LPIPS values.

    Args:
        classifier: whose stages are compared.
        a: float (n, H, W) in [0, 1].
        b: float (n, H, W) in [0, 1].
        extractor: the classifier's name.
        seed: of the bootstrap over pairs.

    Raises:
        EvaluationError: unequal shapes. `details["values"]` has every pair's.
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if a.shape != b.shape or a.ndim != 3 or not len(a):
        raise EvaluationError(f"images are {a.shape} and {b.shape}; expected equal (n, H, W) with n >= 1")
    pairs = zip(torch.from_numpy(a).split(32), torch.from_numpy(b).split(32), strict=True)
    values = torch.cat([_distance(_stages(classifier, x), _stages(classifier, y)) for x, y in pairs]).numpy()
    low, high = bootstrap(np.mean, values, seed=seed)
    details = {"values": values.tolist()}
    return MetricResult(
        "perceptual distance", float(values.mean()), low, high, len(values), "lower", extractor=extractor,
        details=details,
    )  # fmt: skip


def _stages(classifier: FindingClassifier, images: Tensor) -> list[Tensor]:
    """Unit-length feature maps at every halving of the picture."""
    found: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].float()))
        for layer in classifier.backbone
        if isinstance(layer, nn.MaxPool2d)
    ]
    try:
        classifier.features((images[:, None] * 2 - 1).to(classifier.device, classifier.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return [maps / maps.norm(dim=1, keepdim=True).clamp_min(1e-8) for maps in found]


def _distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return torch.stack([(x - y).square().sum(dim=1).mean(dim=(-1, -2)) for x, y in zip(a, b, strict=True)]).mean(dim=0)
