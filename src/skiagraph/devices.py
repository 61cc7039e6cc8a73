"""Where networks run: the name a user gives, checked, or the best there is."""

from __future__ import annotations

import torch

from skiagraph.errors import SkiagraphError

AUTO = "auto"
"""An accelerator where there is one, else the CPU."""


def usable_device(name: str) -> torch.device:
    """The torch device of a name such as "cpu", "cuda", "cuda:1" or "mps", or for "auto" the best that is there.

    Raises:
        SkiagraphError: no such device in this machine, or none that torch knows.
    """
    if name == AUTO:
        return torch.device(available_devices()[-1])
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SkiagraphError(
            f"no device {name!r} here; this machine and this torch {torch.__version__} have "
            f"{', '.join(available_devices())}"
        ) from error
    return device


def available_devices() -> list[str]:
    """Devices that torch can use here, the best last."""
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.append("mps")
    if torch.cuda.is_available():
        found.append("cuda")
    return found
