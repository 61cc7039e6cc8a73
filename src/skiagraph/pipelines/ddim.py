"""DDIM on the noise schedule that a model was trained with, forwards and backwards (arXiv 2010.02502)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import DDIMInverseScheduler, DDIMScheduler
from torch import Tensor

from skiagraph.errors import ModelError

NOISE_SCHEDULE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr",
)  # fmt: skip
"""What a scheduler's configuration says of the noise a model was trained with; the rest is of other samplers."""


def sampler(config: Mapping[str, Any], steps: int, strength: float) -> tuple[DDIMScheduler, Tensor]:
    """DDIM of `steps` steps, and the timesteps that a strength in (0, 1] leaves of them, from the noisiest.

    `config` is that of any diffusers scheduler of the model.

    Raises:
        ModelError: a model of flow matching, whose noise is not DDIM's.
    """
    if config.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction", "sample"):
        raise ModelError("edits and painting go through DDIM, which a model of flow matching cannot; generate with it")
    scheduler = DDIMScheduler(**_shared(config))
    scheduler.set_timesteps(steps)
    return scheduler, scheduler.timesteps[steps - max(1, round(strength * steps)) :]


def inverse_sampler(config: Mapping[str, Any], steps: int) -> DDIMInverseScheduler:
    """The inverse of `sampler`, from clean to noisy, through the same timesteps."""
    scheduler = DDIMInverseScheduler(**_shared(config))
    scheduler.set_timesteps(steps)
    return scheduler


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in config.items() if name in NOISE_SCHEDULE}
    # The inverse scheduler does not know every spacing of steps; both must use the same one.
    return {**known, "clip_sample": False, "timestep_spacing": "leading"}
