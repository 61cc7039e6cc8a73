"""The one training loop: accelerate, EMA, atomic checkpoints and resumption that is exact.

All randomness of a step comes from a generator seeded with (recipe seed, micro-step, process), so a resumed run draws
what the uninterrupted one would have drawn, and a checkpoint needs no random-number state.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from skiagraph.devices import AUTO, fast_bfloat16, usable_device
from skiagraph.errors import RecipeError
from skiagraph.files import atomic_path, make_folder
from skiagraph.models.registry import write_checksums
from skiagraph.progress import Listener, progress, silent
from skiagraph.training.muon import Muon
from skiagraph.training.recipe import OptimConfig, Recipe

SEED_STRIDE = 1_000_003
"""Keeps the random streams of neighbouring recipe seeds apart for the first million micro-steps."""


class Task(Protocol):
    """What is trained: a model, its loss on a batch drawn by a generator, its checks and its export."""

    model: nn.Module

    def to(self, device: torch.device) -> None:
        """Move what the task holds besides `model`."""

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss and its parts for the log; draws the batch and every random number from the CPU `generator`."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measures on the validation split, with the averaged weights."""

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the finished model, averaged weights, to `folder`."""


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and has written a checkpoint."""


def train(recipe: Recipe, task: Task, output: str | Path, *, device: str = AUTO, listen: Listener = progress) -> Path:
    """Train until the recipe's last step; continue from `output/checkpoint` where one exists.

    Writes `checkpoint/` (weights, averaged weights, optimiser moments, step), `log.jsonl`, TensorBoard events and, at
    the end, the exported model in `output/model`, whose path is returned.

    Args:
        recipe: how to train; what its checkpoint belongs to.
        task: what to train.
        output: the run's folder.
        device: "cpu" keeps training off an accelerator that is there; any other that is there accelerate finds.
        listen: hears of progress.

    Raises:
        RecipeError: the checkpoint belongs to another recipe, or cannot be read.
        Interrupted: Ctrl-C or a termination signal came; the checkpoint holds the last finished step.
    """
    output = Path(output)
    make_folder(output)
    optim = recipe.optim
    AcceleratorState._reset_state()  # accelerate keeps the first run's precision for the whole process otherwise
    accelerator = Accelerator(
        cpu=usable_device(device).type == "cpu",
        mixed_precision=_precision(optim, usable_device(device)),
        gradient_accumulation_steps=optim.gradient_accumulation,
        log_with="tensorboard" if optim.tensorboard else None,
        project_dir=output,
    )
    accelerator.init_trackers("events")
    task.to(accelerator.device)
    model = task.model.to(accelerator.device)
    state = TrainState(recipe, model, make_optimizers(model, optim), make_ema(model, optim))
    state.restore(output / "checkpoint", accelerator.device)
    model, *optimizers = accelerator.prepare(model, *state.optimizers.values())
    listen = listen if accelerator.is_main_process else silent
    with (
        _stop_requests() as stop,
        listen("training", optim.steps, done=state.step) as update,
    ):
        last_save, last = time.monotonic(), {}
        pace = _Pace(state.step)
        while state.step < optim.steps:
            parts = _optimise_once(recipe, task, model, optimizers, accelerator, state)
            finished = state.step == optim.steps
            # Reading a value waits for the device, so it is not done at every step.
            if state.step % optim.log_every == 0 or finished:
                last = _finite(parts, state.step)
                _log(output, accelerator, state.step, {**last, "seconds_per_step": pace.since_last(state.step)})
            update(state.step, f"loss {last['loss']:.4f}" if last else "")
            if optim.validate_every and (state.step % optim.validate_every == 0 or finished):
                _log(output, accelerator, state.step, _validate(task, model, accelerator, state.ema))
            if accelerator.is_main_process and (
                stop.requested or finished or time.monotonic() - last_save > 60 * optim.checkpoint_minutes
            ):
                _finite(parts, state.step)
                state.save(output / "checkpoint")
                last_save = time.monotonic()
            if stop.requested:
                raise Interrupted(
                    f"stopped after step {state.step} of {optim.steps}; run the same command to continue from {output}"
                )
    accelerator.end_training()
    if accelerator.is_main_process:
        with (
            _averaged(accelerator.unwrap_model(model), state.ema) as averaged,
            atomic_path(output / "model") as folder,
        ):
            task.export(averaged, folder)
            write_checksums(folder)
    return output / "model"


def _precision(optim: OptimConfig, device: torch.device) -> str:
    """Accelerate's name of the networks' precision; weights and their averages are always float32."""
    wanted = optim.precision == "bfloat16" or (optim.precision == "auto" and fast_bfloat16(device))
    return "bf16" if wanted else "no"


def make_optimizers(model: nn.Module, optim: OptimConfig) -> dict[str, torch.optim.Optimizer]:
    """AdamW over the trainable parameters ("optimizer"), or over those that Muon ("muon") does not take.

    One learning rate serves both."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices: list[nn.Parameter] = []
    if optim.optimizer == "muon":
        linear = {m.weight for m in model.modules() if isinstance(m, nn.Linear)}
        matrices = [p for p in trainable if p in linear]
    rest = [p for p in trainable if not any(p is m for m in matrices)]
    common: dict[str, Any] = {"lr": optim.learning_rate, "weight_decay": optim.weight_decay}
    optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": torch.optim.AdamW(rest, betas=optim.betas, **common)}
    if matrices:
        optimizers["muon"] = Muon(matrices, **common)
    return optimizers


def make_ema(model: nn.Module, optim: OptimConfig) -> EMAModel:
    """Exponential moving average of the weights; the decay ramps up as (1 + step) / (10 + step) to its final value."""
    return EMAModel(model.parameters(), decay=optim.ema_decay)


def learning_rate(step: int, optim: OptimConfig) -> float:
    """Linear warm-up from 0, then constant, or cosine or linear to zero at the last step."""
    warm = min(1.0, (step + 1) / max(1, optim.warmup_steps))
    if optim.schedule == "constant":
        return optim.learning_rate * warm
    if optim.schedule == "linear":
        return optim.learning_rate * warm * min(1.0, (optim.steps - step) / max(1, optim.decay_steps))
    done = max(0, step - optim.warmup_steps) / max(1, optim.steps - optim.warmup_steps)
    return optim.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def step_generator(seed: int, micro_step: int, process: int) -> Generator:
    """CPU generator of everything random in one micro-step; also reseeds the global one, which dropout uses."""
    value = (seed * SEED_STRIDE + micro_step) * 64 + process
    torch.manual_seed(value)
    return Generator().manual_seed(value)


class TrainState:
    """Everything a run needs to go on: weights, averaged weights, optimiser moments and the step."""

    def __init__(
        self, recipe: Recipe, model: nn.Module, optimizers: dict[str, torch.optim.Optimizer], ema: EMAModel
    ) -> None:
        self.recipe, self.model, self.optimizers, self.ema = recipe, model, optimizers, ema
        self.step = 0

    def save(self, folder: Path) -> None:
        """Write the checkpoint folder, whole or not at all."""
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            for name, tensors in self._tensors().items():
                save_file(
                    {k: v.detach().contiguous() for k, v in tensors.items()},
                    temporary / f"{name}.safetensors",
                )
            meta = {
                "step": self.step,
                "ema_step": self.ema.optimization_step,
                "recipe": _chosen(self.recipe),
            }
            (temporary / "state.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")

    def restore(self, folder: Path, device: torch.device) -> None:
        """Load the checkpoint if there is one.

        Raises:
            RecipeError: it was written by another recipe (the number of steps may differ), or is damaged.
        """
        if not folder.exists():
            return
        try:
            meta = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            self._check(meta["recipe"], folder)
            stored = {name: load_file(folder / f"{name}.safetensors", device=str(device)) for name in self._tensors()}
            self._load(stored)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise RecipeError(f"checkpoint {folder} is damaged ({error}); remove it to train from the start") from error
        self.step, self.ema.optimization_step = meta["step"], meta["ema_step"]

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        return {
            "model": self.model.state_dict(),
            "ema": {str(i): p for i, p in enumerate(self.ema.shadow_params)},
            **{name: _moments(optimizer) for name, optimizer in self.optimizers.items()},
        }

    def _load(self, stored: dict[str, dict[str, Tensor]]) -> None:
        self.model.load_state_dict(stored["model"])
        self.ema.shadow_params = [stored["ema"][str(i)] for i in range(len(self.ema.shadow_params))]
        for kind, optimizer in self.optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in stored[kind].items():
                index, name = key.split(".", 1)
                moments.setdefault(int(index), {})[name] = value[0] if name == "step" else value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})

    def _check(self, stored: dict[str, Any], folder: Path) -> None:
        def identity(recipe: dict[str, Any]) -> dict[str, Any]:
            run_only = {
                "steps",
                "schedule",
                "decay_steps",
                "log_every",
                "validate_every",
                "checkpoint_minutes",
                "tensorboard",
            }
            changes_training = {k: v for k, v in recipe.items() if k != "perceptual_decoder"}
            return {**changes_training, "optim": {k: v for k, v in recipe["optim"].items() if k not in run_only}}

        if identity(stored) != identity(_chosen(self.recipe)):
            raise RecipeError(f"checkpoint {folder} was made by another recipe; choose another output or remove it")


def _chosen(recipe: Recipe) -> dict[str, Any]:
    """What the recipe says that is no default, so that a new field with a default refuses no checkpoint."""
    return recipe.model_dump(mode="json", exclude_defaults=True)


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": value if value.ndim else value[None]
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def _optimise_once(
    recipe: Recipe, task: Task, model: nn.Module, optimizers: list[Any], accelerator: Accelerator, state: TrainState
) -> dict[str, Tensor]:
    optim = recipe.optim
    for group in (g for optimizer in optimizers for g in optimizer.param_groups):
        group["lr"] = learning_rate(state.step, optim)
    totals: dict[str, Tensor] = {}
    for micro in range(optim.gradient_accumulation):
        micro_step = state.step * optim.gradient_accumulation + micro
        generator = step_generator(recipe.seed, micro_step, accelerator.process_index)
        with accelerator.accumulate(model):
            with accelerator.autocast():
                loss, parts = task.loss(model, optim.batch_size, generator)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), optim.max_grad_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        for name, value in {"loss": loss, **parts}.items():
            totals[name] = totals.get(name, 0.0) + value.detach() / optim.gradient_accumulation
    state.step += 1
    state.ema.step(accelerator.unwrap_model(model).parameters())
    return totals


def _finite(parts: dict[str, Tensor], step: int) -> dict[str, float]:
    """The values, checked before they are logged and before weights that made them are saved."""
    values = {name: float(value) for name, value in parts.items()}
    if not math.isfinite(values["loss"]):
        raise RecipeError(f"loss is {values['loss']} by step {step}; lower optim.learning_rate, or use float32")
    return values


@contextmanager
def _averaged(model: nn.Module, ema: EMAModel) -> Iterator[nn.Module]:
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    model.eval()
    try:
        yield model
    finally:
        ema.restore(model.parameters())
        model.train()


def _validate(task: Task, model: nn.Module, accelerator: Accelerator, ema: EMAModel) -> dict[str, float]:
    with _averaged(accelerator.unwrap_model(model), ema) as averaged, torch.no_grad(), accelerator.autocast():
        return task.validate(averaged)


def _log(output: Path, accelerator: Accelerator, step: int, values: dict[str, float]) -> None:
    accelerator.log(values, step=step)
    if accelerator.is_main_process:
        with open(output / "log.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}) + "\n")


class _Pace:
    """Seconds a step, of the steps since the last question, validation and checkpoints among them."""

    def __init__(self, step: int) -> None:
        self.step, self.time = step, time.monotonic()

    def since_last(self, step: int) -> float:
        now = time.monotonic()
        seconds = (now - self.time) / max(1, step - self.step)
        self.step, self.time = step, now
        return seconds


class _StopFlag:
    requested = False


@contextmanager
def _stop_requests() -> Iterator[_StopFlag]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that no step is cut in half; a second one acts as usual."""
    flag = _StopFlag()
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: Any) -> None:
        flag.requested = True
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, request)
    try:
        yield flag
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
