"""The offline feature extractor: the shipped classifier's penultimate layer."""

from __future__ import annotations

import numpy as np
import torch

from skiagraph.errors import EvaluationError
from skiagraph.models.finding_classifier import FindingClassifier

EXTRACTOR = "cxr-classifier"
"""Name of the shipped classifier, which stands in the name of every distance computed on its features."""


@torch.no_grad()
def classify(
    classifier: FindingClassifier, images: np.ndarray, *, batch_size: int = 64
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Features and finding probabilities of radiographs.

    Args:
        classifier: `load_component(EXTRACTOR)`, or one trained by the same recipe.
        images: float (n, H, W) in [0, 1], bright = dense.
        batch_size: images at a time.

    Returns:
        Features float32 (n, d), and by label the probabilities (n,) in [0, 1].

    Raises:
        EvaluationError: images of another shape or range.
    """
    images = np.asarray(images)
    if images.ndim != 3 or not len(images) or images.min() < 0 or images.max() > 1:
        raise EvaluationError(f"images are {images.shape}; expected (n, H, W) with n >= 1 and values in [0, 1]")
    classifier.eval()
    features, logits = [], []
    for chunk in torch.from_numpy(images.astype(np.float32)).split(batch_size):
        found = classifier.features((chunk[:, None] * 2 - 1).to(classifier.device, classifier.dtype))
        features.append(found.float().cpu())
        logits.append(classifier.head(found).float().cpu())
    probabilities = torch.cat(logits).sigmoid().numpy()
    return torch.cat(features).numpy(), {n: probabilities[:, i] for i, n in enumerate(classifier.config.labels)}
