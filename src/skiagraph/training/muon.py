"""Muon, an optimiser for the weights of linear layers (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

`torch.optim.Muon` computes in bfloat16 alone, which takes a processor without it many times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from skiagraph.devices import fast_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearly the nearest semi-orthogonal matrix: five quintic Newton-Schulz iterations (Jordan et al. 2024).

    Args:
        matrix: (rows, columns), of any scale.

    Returns:
        As `matrix`, in bfloat16 where the device has it, else float32; its singular values lie near 1.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16 if fast_bfloat16(matrix.device) else torch.float32)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov's), orthogonalised, with decoupled weight decay.

    The update has the root mean square of AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2), so that one
    learning rate serves both.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)
        return loss

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        kept = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
        kept.lerp_(weight.grad, 1 - group["momentum"])
        update = orthogonalised(weight.grad.lerp(kept, group["momentum"]))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update.to(weight.dtype), alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)
