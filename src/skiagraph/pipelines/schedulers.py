"""Schedulers of diffusers by name, and which of them can sample models of a beta schedule."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
from diffusers import ConfigMixin, SchedulerMixin

from skiagraph.errors import ModelError

ADVICE = "try DDIM, DPMSolverMultistep, EulerDiscrete or UniPCMultistep"


def make_scheduler(name: str, config: Any) -> SchedulerMixin:
    """A diffusers scheduler by class name, with or without "Scheduler", on the noise schedule of a model's `config`.

    Raises:
        ModelError: no such scheduler, or one of another kind of model (`check_scheduler`).
    """
    cls = getattr(diffusers, name, None) or getattr(diffusers, f"{name}Scheduler", None)
    if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin) and issubclass(cls, ConfigMixin)):
        raise ModelError(f"diffusers has no scheduler {name!r}; {ADVICE}")
    try:
        scheduler = cls.from_config(config)
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{cls.__name__} does not fit this model ({error}); {ADVICE}") from error
    check_scheduler(scheduler)
    return scheduler


def check_scheduler(scheduler: Any) -> None:
    """Raise ModelError unless a scheduler follows a beta schedule, knows what is predicted and steps without more.

    Flow-matching and score-based schedulers do not: their noise is not what the model was trained on.
    """
    parameters = inspect.signature(scheduler.step).parameters.values() if hasattr(scheduler, "step") else ()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    schedule = all(hasattr(scheduler, name) for name in ("alphas_cumprod", "init_noise_sigma", "scale_model_input"))
    if not schedule or len(needed) != 3 or "prediction_type" not in scheduler.config:
        raise ModelError(f"{type(scheduler).__name__} is for another kind of model, such as flow matching; {ADVICE}")
