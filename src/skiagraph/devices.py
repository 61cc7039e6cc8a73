"""What a run asks of the machine: a device that is there, or the best there is, and noise from a seed."""

from __future__ import annotations

import torch
from torch import Generator

from skiagraph.errors import ModelError

AUTO = "auto"
"""An accelerator where there is one, else the CPU."""

CPU_HALVES = {torch.bfloat16: "bf16", torch.float16: "fp16"}
"""How capabilities of processors that compute in a half precision end."""

SEEDS = 2**63
"""Seeds lie below it, from 0 on; a run numbers its images on from the first seed."""


def usable_device(name: str) -> torch.device:
    """The torch device of a name such as "cpu", "cuda", "cuda:1" or "mps", or for "auto" the best that is there.

    Raises:
        ModelError: no such device here; the message lists those there are.
    """
    if name == AUTO:
        return torch.device(available_devices()[-1])
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"no device {name!r} that PyTorch {torch.__version__} can use here; --device may be "
            f"{', '.join(available_devices())}"
        ) from error
    return torch.device(name)


def available_devices() -> list[str]:
    """Kinds of device that torch can use here, the best last."""
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.append("mps")
    if torch.cuda.is_available():
        found.append("cuda")
    return found


def seeded(seed: int) -> Generator:
    """A generator on the CPU that starts from `seed`, in [0, `SEEDS`).

    Raises:
        ModelError: a seed out of this range.
    """
    if not 0 <= seed < SEEDS:
        raise ModelError(f"seed {seed} is out of range; seeds lie from 0 to {SEEDS - 1}, those of later images too")
    return Generator().manual_seed(seed)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether this machine computes in bfloat16: PyTorch emulates it elsewhere, many times slower than float32."""
    return _computes_in(torch.bfloat16, device) is True


def emulates(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether PyTorch is known to emulate a precision on this device, many times slower than it computes in float32."""
    return _computes_in(dtype, device) is False


def _computes_in(dtype: torch.dtype, device: torch.device) -> bool | None:
    """Whether a device computes in a precision itself; None where PyTorch does not tell."""
    if dtype == torch.float32:
        return True
    if device.type == "cuda":
        return dtype != torch.bfloat16 or torch.cuda.is_bf16_supported()
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(prefix + CPU_HALVES[dtype]) for prefix in ("avx512_", "amx_", ""))
    return None
