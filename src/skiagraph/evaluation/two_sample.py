"""Can a network that is trained for nothing else tell two sets of images apart?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor, nn

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap

CROPS = 8
"""Of each image, in a test; their mean logit is the image's score."""


def two_sample_test(
    real: np.ndarray, synthetic: np.ndarray, *, real_groups: np.ndarray, synthetic_groups: np.ndarray, steps: int = 400,
    crop: int = 128, batch_size: int = 32, seed: int = 0,
) -> MetricResult:  # fmt: skip
    """AUC per image of a small convolutional network trained on half of both sets, on the other half.

    A classifier two-sample test (Lopez-Paz & Oquab 2017, arXiv 1610.06545): .5 where the sets cannot be told apart.
    Compare only at equal n, beside a floor of real against other real images.

    Args:
        real: (n, H, W) in [0, 1].
        synthetic: (m, H, W) in [0, 1].
        real_groups: patient of each real image; nobody is on both halves.
        synthetic_groups: prompt or patient of each synthetic one, likewise.
        steps: of training.
        crop: side of the squares it sees.
        batch_size: squares of each set at a time.
        seed: of halves, weights and crops; equal seeds give equal results.

    Raises:
        EvaluationError: a set of fewer than two groups, or images smaller than the crops.
    """
    if min(real.shape[1:] + synthetic.shape[1:]) < crop:
        raise EvaluationError(f"images are {real.shape[1:]} and {synthetic.shape[1:]}, smaller than crops of {crop}")
    halves = [_halves(g, seed) for g in (real_groups, synthetic_groups)]
    sets = [torch.from_numpy(np.asarray(x, np.float32)) * 2 - 1 for x in (real, synthetic)]
    generator = Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _network().to(memory_format=torch.channels_last)
    train = [x[first] for x, first in zip(sets, halves, strict=True)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for _ in range(steps):
        drawn = [x[torch.randint(len(x), (batch_size,), generator=generator)] for x in train]
        logits = network(_crops(torch.cat(drawn), crop, generator))[:, 0]
        truth = torch.arange(2).repeat_interleave(batch_size).float()
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, truth).backward()
        optimizer.step()
        schedule.step()
    network.eval()
    scores = [_scores(network, x[~first], crop, generator) for x, first in zip(sets, halves, strict=True)]
    truth, values = np.repeat([0, 1], [len(s) for s in scores]), np.concatenate(scores)
    value = float(roc_auc_score(truth, values))
    low, high = bootstrap(lambda t, v: roc_auc_score(t, v) if 0 < t.sum() < len(t) else np.nan, truth, values)
    return MetricResult("two-sample AUC", value, low, high, len(values), "lower", extractor="fresh-cnn")


def _halves(groups: np.ndarray, seed: int) -> np.ndarray:
    """bool (n,), True in the first half; a group is in one half."""
    names = np.unique(groups)
    if len(names) < 2:
        raise EvaluationError("images of one group cannot be halved; give a group (patient, prompt) for each")
    first = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
    return np.isin(groups, first)


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 64), (64, 96)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]
    layers += [nn.Conv2d(96, 96, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 1)]
    return nn.Sequential(*layers)


def _crops(images: Tensor, side: int, generator: Generator) -> Tensor:
    """A random square (n, 1, side, side) of each image (n, H, W)."""
    rows = torch.randint(images.shape[1] - side + 1, (len(images),), generator=generator).tolist()
    columns = torch.randint(images.shape[2] - side + 1, (len(images),), generator=generator).tolist()
    cut = [x[r : r + side, c : c + side] for x, r, c in zip(images, rows, columns, strict=True)]
    return torch.stack(cut)[:, None].contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _scores(network: nn.Module, images: Tensor, side: int, generator: Generator) -> np.ndarray:
    logits = [
        torch.cat([network(_crops(part, side, generator))[:, 0] for part in images.split(64)]) for _ in range(CROPS)
    ]
    return torch.stack(logits).mean(dim=0).numpy()
