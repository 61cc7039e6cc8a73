import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from skiagraph.errors import RecipeError
from skiagraph.progress import silent
from skiagraph.training.loop import Interrupted, learning_rate, step_generator, train
from skiagraph.training.recipe import AutoencoderRecipe, OptimConfig


def recipe(steps=8, **optim):
    values = {
        "steps": steps,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "tensorboard": False,
        "validate_every": 0,
        **optim,
    }
    return AutoencoderRecipe(task="autoencoder", data={"datasets": []}, optim=OptimConfig(**values))


class LineTask:
    """Fits a dropout-noised line to points drawn by the generator; can stop the run after some batches."""

    def __init__(self, stop_after=None, nan_at=None):
        torch.manual_seed(7)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.calls, self.stop_after, self.nan_at = 0, stop_after, nan_at

    def to(self, device):
        pass

    def loss(self, model, batch_size, generator):
        self.calls += 1
        if self.calls == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        x = torch.randn(batch_size, 3, generator=generator)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return (loss * float("nan") if self.calls == self.nan_at else loss), {}

    def validate(self, model):
        return {"weight": float(model[0].weight.sum())}

    def export(self, model, folder):
        folder.mkdir()
        torch.save(model.state_dict(), folder / "weights.pt")


def final_tensors(output):
    return {p.name: load_file(p) for p in sorted((output / "checkpoint").glob("*.safetensors"))}


def assert_identical(a, b):
    assert a.keys() == b.keys() == {"ema.safetensors", "model.safetensors", "optimizer.safetensors"}
    for name, tensors in a.items():
        assert tensors.keys() == b[name].keys()
        assert all(torch.equal(tensors[k], b[name][k]) for k in tensors), name


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resumed_training_equals_uninterrupted_bit_for_bit(tmp_path, accumulation, precision):
    r = recipe(gradient_accumulation=accumulation, precision=precision)
    train(r, LineTask(), tmp_path / "whole", listen=silent)
    with pytest.raises(Interrupted, match="step 3 of 8"):
        train(r, LineTask(stop_after=3 * accumulation), tmp_path / "parts", listen=silent)
    train(r, LineTask(), tmp_path / "parts", listen=silent)
    assert_identical(final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts"))


def test_kill_minus_nine_loses_only_steps_since_the_checkpoint(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            sys.path[:0] = {[str(Path(__file__).parent)]!r}
            from test_loop import LineTask, recipe
            from skiagraph.progress import silent
            from skiagraph.training.loop import train
            task = LineTask()
            slow = task.loss
            task.loss = lambda *a: (time.sleep(0.05), slow(*a))[1]
            train(recipe(steps=60, checkpoint_minutes=0), task, sys.argv[1], listen=silent)
            """
        )
    )
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, str(script), str(killed)])
    deadline = time.monotonic() + 60
    while not (killed / "checkpoint" / "state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.4)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = json.loads((killed / "checkpoint" / "state.json").read_text())["step"]
    assert 0 < done < 60
    train(recipe(steps=60), LineTask(), killed, listen=silent)
    train(recipe(steps=60), LineTask(), tmp_path / "whole", listen=silent)
    assert_identical(final_tensors(tmp_path / "whole"), final_tensors(killed))


def test_more_steps_continue_a_finished_run(tmp_path):
    train(recipe(steps=4, schedule="constant"), LineTask(), tmp_path / "a", listen=silent)
    train(recipe(steps=8, schedule="constant"), LineTask(), tmp_path / "a", listen=silent)
    train(recipe(steps=8, schedule="constant"), LineTask(), tmp_path / "b", listen=silent)
    assert_identical(final_tensors(tmp_path / "a"), final_tensors(tmp_path / "b"))


def test_export_holds_the_averaged_weights(tmp_path):
    train(recipe(ema_decay=0.5), LineTask(), tmp_path, listen=silent)
    exported = torch.load(tmp_path / "model" / "weights.pt", weights_only=True)
    averaged = load_file(tmp_path / "checkpoint" / "ema.safetensors")
    current = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert torch.equal(exported["0.weight"], averaged["0"])
    assert not torch.equal(exported["0.weight"], current["0.weight"])


def test_checkpoint_of_another_recipe_is_refused(tmp_path):
    train(recipe(steps=2), LineTask(), tmp_path, listen=silent)
    with pytest.raises(RecipeError, match="another recipe"):
        train(recipe(steps=2, learning_rate=1e-3), LineTask(), tmp_path, listen=silent)


def test_damaged_checkpoint_is_named(tmp_path):
    train(recipe(steps=2), LineTask(), tmp_path, listen=silent)
    path = tmp_path / "checkpoint" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RecipeError, match=r"checkpoint .* is damaged"):
        train(recipe(steps=4), LineTask(), tmp_path, listen=silent)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    train(recipe(steps=2), LineTask(), tmp_path, listen=silent)
    before = final_tensors(tmp_path)
    with pytest.raises(RecipeError, match="loss is nan by step 4"):
        train(recipe(steps=4), LineTask(nan_at=1), tmp_path, listen=silent)
    assert_identical(before, final_tensors(tmp_path))


def test_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    train(recipe(steps=2), LineTask(), tmp_path, listen=silent)
    before = final_tensors(tmp_path)

    def full(tensors, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("skiagraph.training.loop.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        train(recipe(steps=4), LineTask(), tmp_path, listen=silent)
    assert_identical(before, final_tensors(tmp_path))
    assert [p for p in tmp_path.iterdir() if ".tmp" in p.name] == []


def test_learning_rate_warms_up_and_decays():
    optim = recipe(steps=100, warmup_steps=10, schedule="cosine").optim
    rates = [learning_rate(s, optim) for s in range(100)]
    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) == pytest.approx(1e-2)
    assert rates[-1] < 1e-5
    assert learning_rate(99, recipe(steps=100, schedule="constant", warmup_steps=1).optim) == 1e-2


def test_step_generator_differs_by_seed_step_and_process():
    draws = {float(torch.rand(1, generator=step_generator(*k))) for k in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    assert len(draws) == 4
