"""LPIPS (Zhang et al. 2018, arXiv 1801.03924) with an AlexNet whose ImageNet weights are given as a file."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from skiagraph.errors import EvaluationError, one_line

NAME = "lpips-alex"
"""What metrics call it."""

HEADS = {"lpips": "weights/v0.1/alex.pth", "torchmetrics": "functional/image/lpips_models/alex.pth"}
"""Packages that bring the published linear weights of version 0.1, and where; neither is imported."""

TAPS = (1, 4, 7, 9, 11)
"""Layers of AlexNet's features after which activations are compared."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips:
    """Distances of pairs of pictures, as published.

    Args:
        backbone: torchvision's AlexNet weights (`alexnet-owt-7be5be79.pth`), or the same tensors as safetensors.

    Raises:
        EvaluationError: a file that is no such network, or no package that brings the linear weights.
    """

    name = NAME

    def __init__(self, backbone: str | Path) -> None:
        self.network = alexnet_features()
        found = _tensors(Path(backbone))
        own = {k.removeprefix("features."): v for k, v in found.items() if k.startswith("features.")}
        try:
            self.network.load_state_dict(own)
        except RuntimeError as error:
            raise EvaluationError(f"{backbone} does not hold torchvision's AlexNet ({one_line(error)})") from error
        self.network.eval().requires_grad_(False)
        self.heads = [_heads()[f"lin{i}.model.1.weight"] for i in range(len(TAPS))]

    @torch.no_grad()
    def perceptual_distance(self, a: np.ndarray, b: np.ndarray, *, batch_size: int = 16) -> np.ndarray:
        """LPIPS float (n,) of images a and b, (n, H, W) in [0, 1]; grey is given as three equal channels."""
        if np.shape(a) != np.shape(b):
            raise EvaluationError(f"images are {np.shape(a)} and {np.shape(b)}; give pairs of one size")
        sides = [torch.from_numpy(np.ascontiguousarray(x, np.float32)).split(batch_size) for x in (a, b)]
        return torch.cat([self._distance(x, y) for x, y in zip(*sides, strict=True)]).numpy()

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(self._stages(a), self._stages(b), self.heads, strict=True)
        return sum(F.conv2d((x - y).square(), head).mean(dim=(1, 2, 3)) for x, y, head in pairs)

    def _stages(self, images: Tensor) -> list[Tensor]:
        """Activations of unit length."""
        shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        x, found = (images[:, None] * 2 - 1 - shift) / scale, []
        for index, layer in enumerate(self.network):
            x = layer(x)
            if index in TAPS:
                found.append(x / torch.sqrt(x.square().sum(dim=1, keepdim=True) + 1e-8))
        return found


def alexnet_features() -> nn.Sequential:
    """AlexNet's layers before its classifier, numbered as torchvision numbers them (arXiv 1404.5997)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise EvaluationError(f"{path} cannot be read as weights ({one_line(error)})") from error


def _heads() -> dict[str, Tensor]:
    for package, file in HEADS.items():
        spec = find_spec(package)
        if spec is not None and spec.origin is not None and (path := Path(spec.origin).parent / file).is_file():
            return torch.load(path, map_location="cpu", weights_only=True)
    raise EvaluationError("LPIPS's linear weights are not here; pip install torchmetrics, or lpips")
