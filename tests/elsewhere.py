"""A device "elsewhere", made of the CPU, that refuses tensors of the CPU: what a GPU would say, without one.

Every operation unwraps its tensors, computes on the CPU and wraps the result; a tensor of the CPU among them, unless it
is a number, is the error that CUDA gives. Random numbers and results are the CPU's, so they can be compared with it.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
from torch.utils._pytree import tree_map

try:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
except ImportError:  # before torch 2.9
    _setup_privateuseone_for_python_backend = None

AVAILABLE = _setup_privateuseone_for_python_backend is not None

DEVICE = "elsewhere"
CREATED_HERE = {"_to_copy", "copy_", "empty", "empty_strided", "_copy_from", "_copy_from_and_resize", "set_"}


DONE_WHOLE = (
    "arange", "arange.start", "arange.start_step", "linspace", "eye", "eye.m", "randperm", "nonzero", "abs",
    "slice.Tensor", "select.int", "transpose.int", "permute", "unsqueeze", "squeeze", "squeeze.dim", "expand", "t",
    "constant_pad_nd",
)  # fmt: skip
"""Operations that torch makes of an empty tensor which grows, or of strides, and a stand-in has neither."""

_HELD: dict[int, torch.Tensor] = {}
"""Tensors of the CPU by the storage of those that stand for them, which a parameter shares with what it was made of."""


@cache
def register() -> str:
    """Make the device known to torch, once; its name."""
    _setup_privateuseone_for_python_backend(DEVICE)
    module = getattr(torch, DEVICE)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    module.get_rng_state, module.set_rng_state = lambda _=0: torch.get_rng_state(), lambda state, _=0: None
    library = torch.library.Library("_", "IMPL")
    library.fallback(_run, "PrivateUse1")
    aten = torch.library.Library("aten", "IMPL")
    for name in DONE_WHOLE:
        op = getattr(torch.ops.aten, name.split(".")[0])
        aten.impl(name, partial(_run, getattr(op, name.split(".")[1] if "." in name else "default")), "PrivateUse1")
    aten.impl("convolution_overrideable", partial(_run, torch.ops.aten.convolution.default), "PrivateUse1")
    aten.impl("convolution_backward_overrideable", _convolution_backward, "PrivateUse1")
    aten.impl("as_strided_", _reshaped_in_place, "PrivateUse1")
    register.libraries = library, aten
    return DEVICE


def _convolution_backward(grad: torch.Tensor, image: torch.Tensor, weight: torch.Tensor, *how: Any) -> Any:
    return _run(torch.ops.aten.convolution_backward.default, grad, image, weight, [weight.shape[0]], *how)


def _reshaped_in_place(value: torch.Tensor, *how: Any) -> torch.Tensor:
    value.data = _run(torch.ops.aten.as_strided.default, value, *how)
    return value


def _wrapped(inner: torch.Tensor) -> torch.Tensor:
    outer = torch._C._acc.create_empty_tensor(inner.shape, inner.dtype)
    _HELD[outer.untyped_storage()._cdata] = inner
    return outer


def _is_elsewhere(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == DEVICE


def _run(op: Any, *args: Any, **kwargs: Any) -> Any:
    name = op._schema.name.split("::")[1]
    known: dict[int, torch.Tensor] = {}

    def inner(value: Any) -> Any:
        if isinstance(value, torch.device) and value.type == DEVICE:
            return torch.device("cpu")
        if not isinstance(value, torch.Tensor):
            return value
        if not _is_elsewhere(value):
            if value.ndim and name not in CREATED_HERE:
                raise RuntimeError(f"{name}: expected all tensors to be on {DEVICE}, one is on {value.device}")
            return value
        held = _HELD[value.untyped_storage()._cdata].reshape(value.shape)
        known[id(held)] = value
        return held

    to = kwargs.get("device")
    plain_args, plain_kwargs = tree_map(inner, args), tree_map(inner, kwargs)
    if name == "_copy_from":
        plain_args[1].copy_(plain_args[0])
        return args[1]
    if name == "as_strided":  # said of the stand-in, which has no gaps; what it stands for may have
        base = plain_args[0].contiguous()
        offset = plain_args[3] if len(plain_args) > 3 and plain_args[3] is not None else 0
        result = base.as_strided(plain_args[1], plain_args[2], base.storage_offset() + offset)
    elif name == "view":
        result = plain_args[0].reshape(plain_args[1])
    else:
        result = op(*plain_args, **plain_kwargs)
    if name == "_to_copy" and to is not None and torch.device(to).type == "cpu":
        return result

    def outer(value: Any) -> Any:
        return known.get(id(value), _wrapped(value)) if isinstance(value, torch.Tensor) else value

    return tree_map(outer, result)


def device() -> torch.device:
    """The device, or the CPU where torch cannot have it."""
    return torch.device(register() if AVAILABLE else "cpu")


def trains(task: Any) -> None:
    """Fail unless a training task takes a step on the device."""
    if AVAILABLE:
        task.to(device())
        loss, parts = task.loss(task.model.to(device()).train(), 2, torch.Generator().manual_seed(0))
        loss.backward()
        assert {x.device.type for x in (loss, *parts.values())} == {DEVICE}
        assert {p.grad.device.type for p in task.model.parameters() if p.grad is not None} == {DEVICE}
