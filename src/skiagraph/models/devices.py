"""What a run asks of the machine: a device that is there, and noise from a seed that generators take."""

from __future__ import annotations

import torch
from torch import Generator

from skiagraph.errors import ModelError

SEEDS = 2**63
"""Seeds lie below it, from 0 on; a run numbers its images on from the first seed."""


def usable_device(name: str) -> torch.device:
    """A device of this machine, by its torch name such as "cpu", "cuda" or "cuda:1".

    Raises:
        ModelError: no such device here; the message lists those there are.
    """
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"no device {name!r} that PyTorch {torch.__version__} can use here; --device may be {', '.join(_devices())}"
        ) from error
    return torch.device(name)


def seeded(seed: int) -> Generator:
    """A generator on the CPU that starts from `seed`, in [0, `SEEDS`).

    Raises:
        ModelError: a seed out of this range.
    """
    if not 0 <= seed < SEEDS:
        raise ModelError(f"seed {seed} is out of range; seeds lie from 0 to {SEEDS - 1}, those of later images too")
    return Generator().manual_seed(seed)


def _devices() -> list[str]:
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
