"""Executors: the same files and manifest whoever works, and nothing lost with a worker."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from skiagraph.engine import executor as module
from skiagraph.engine import manifest
from skiagraph.engine.executor import HERE, Processes, make_executor
from skiagraph.engine.job import open_run
from skiagraph.errors import ModelError, ReportError, SkiagraphError
from skiagraph.progress import silent
from squares import Squares, seen_gpus

ITEMS = {str(n): n for n in range(8)}


@pytest.fixture(autouse=True, scope="module")
def one_moment():
    """All runs begin at the same time, which their manifests say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "datetime", Mock(now=lambda zone: datetime(2026, 1, 1, tzinfo=zone)))
        yield


@pytest.fixture(autouse=True)
def fork(request, monkeypatch):
    """Workers that need not import everything anew; those of a few tests are spawned, as all are in use."""
    if "spawned" not in request.fixturenames:
        monkeypatch.setattr(module, "get_context", lambda method: multiprocessing.get_context("fork"))


@pytest.fixture
def spawned():
    """Workers start as they do in use."""


def run(folder, executor, *, batch_size=2, goal=None, counts=lambda row: True, items=ITEMS, **how):
    with executor.start(partial(Squares, folder, **how)) as work, open_run(folder, "square", {}, listen=silent) as job:
        outcome = job.each("squaring", items, work, batch_size=batch_size, goal=goal, counts=counts)
        return job.finish(rows=[kept.with_hash() for kept in outcome.kept.values()], failed=outcome.failed)


def contents(folder):
    """Every file's bytes by name, but for the journal, whose order differs."""
    paths = [p for p in folder.rglob("*") if p.is_file() and p.parent.name != "workers"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.name not in {"journal.jsonl", ".lock"}}


def same(one, two):
    return contents(one) == contents(two)


def journalled(folder):
    return sorted(json.loads(line)["item"] for line in (folder / "journal.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    run(folder, HERE)
    return folder


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_files_and_manifest_are_the_same_whatever_the_number_of_workers(tmp_path, alone, workers):
    run(tmp_path, Processes(workers))
    assert same(tmp_path, alone)
    assert len(list((tmp_path / "workers").iterdir())) in range(1, workers + 1)
    assert str(os.getpid()) not in os.listdir(tmp_path / "workers")


def test_a_killed_worker_is_replaced_and_its_batch_done_by_another(tmp_path, alone, spawned):
    run(tmp_path, Processes(2), deadly=(3,))
    assert same(tmp_path, alone)
    assert journalled(tmp_path) == sorted(ITEMS), "nothing is lost, and nothing journalled twice"


def test_a_batch_that_kills_every_worker_ends_the_run_which_keeps_what_it_has(tmp_path, alone):
    with pytest.raises(SkiagraphError, match=r"3 workers were lost over 6; .* code -9"):
        run(tmp_path, Processes(1), always_deadly=(6,))
    assert journalled(tmp_path) == [str(n) for n in range(6)]
    run(tmp_path, Processes(2))
    assert same(tmp_path, alone)


def test_a_workers_error_arrives_as_it_was_raised_and_the_run_can_go_on(tmp_path, alone):
    with pytest.raises(ReportError, match="5 is wrong") as caught:
        run(tmp_path, Processes(2), wrong=5)
    assert str(caught.value) == "5 is wrong"
    assert "squares.py" in caught.value.__notes__[0], "it says where it was raised"
    assert "4" in journalled(tmp_path), "what its batch had finished is kept"
    run(tmp_path, HERE)
    assert set(contents(tmp_path)) == set(contents(alone))


def test_a_worker_that_cannot_be_built_leaves_nothing_behind(tmp_path):
    with pytest.raises(ModelError, match="no such model"):
        run(tmp_path / "o", Processes(2), unbuildable=ModelError("no such model"))
    assert not (tmp_path / "o").exists()


def test_failed_items_keep_the_items_order(tmp_path):
    made = run(tmp_path, Processes(3), fails=(0, 7), batch_size=1)
    assert list(made["failed"].items()) == [("0", "0 is unreadable"), ("7", "7 is unreadable")]
    assert [row["square"] for row in made["rows"]] == [n**2 for n in range(1, 7)]


def test_each_worker_halves_what_does_not_fit(tmp_path):
    run(tmp_path / "a", HERE, room=1, batch_size=4)
    run(tmp_path / "b", Processes(2), room=1, batch_size=4)
    assert same(tmp_path / "a", tmp_path / "b")
    assert "1 of 1" in (tmp_path / "b/1.txt").read_text()


@pytest.mark.parametrize("workers", [2, 3])
def test_a_goal_is_reached_by_the_same_items(tmp_path, workers):
    goal = {"goal": 2, "counts": lambda row: row["square"] % 2 == 0, "batch_size": 1}
    run(tmp_path / "a", HERE, **goal)
    made = run(tmp_path / "b", Processes(workers), **goal)
    assert [row["square"] for row in made["rows"]] == [0, 1, 4]
    assert same(tmp_path / "a", tmp_path / "b"), "what was done beyond the goal is gone"
    assert run(tmp_path / "b", HERE, **goal) == made


def _interrupt_when(path):
    while not path.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interruptible():
    """Ctrl-C is heard, also where a shell has started the tests in the background, deaf to it."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


def test_ctrl_c_ends_all_workers_and_the_run_can_go_on(tmp_path, alone, interruptible):
    threading.Thread(target=_interrupt_when, args=(tmp_path / "2.txt",), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Processes(2), pause=1)
    for worker in os.listdir(tmp_path / "workers"):
        assert not Path(f"/proc/{worker}").exists()
    assert not list(tmp_path.glob(".*.tmp*"))
    run(tmp_path, Processes(2))
    assert set(contents(tmp_path)) == set(contents(alone))


def test_each_process_is_shown_one_gpu_in_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for visible, device, expected in (
        (None, "auto", {"0", "1"}), ("3,5", "cuda", {"3", "5"}), ("3,5", "cuda:1", {"3,5"}), ("3,5", "cpu", {"3,5"}),
    ):  # fmt: skip
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with (
            Processes(2).start(seen_gpus, device) as work,
            open_run(tmp_path / device, "see", {}, listen=silent) as job,
        ):
            rows = job.each("seeing", ITEMS, work).kept.values()
        assert {kept.row["gpus"] for kept in rows} <= expected
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_options_that_do_not_fit_are_told(monkeypatch):
    assert make_executor() == HERE
    assert make_executor(workers=3) == Processes(3)
    with pytest.raises(SkiagraphError, match="--executor ray too"):
        make_executor(address="auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SkiagraphError, match="Ray is not installed"), make_executor("ray").start(Squares):
        pass
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SkiagraphError, match="no GPU"), Processes(0).start(Squares):
        pass


def images(folder, executor, **changes):
    """Two images of each of two reports, drawn one by one."""
    from skiagraph.engine.generate import GenerateConfig, generate

    given = {"reports": ("Cardiomegaly.", "Edema."), "steps": 2, "count": 2, "batch_size": 1}
    return generate(GenerateConfig(**given | changes), folder, listen=silent, executor=executor)


@pytest.mark.slow
def test_images_are_the_same_whoever_draws_them(tiny_model, tmp_path, spawned):
    one, two = tmp_path / "a" / "set", tmp_path / "b" / "set"
    images(one, HERE, model=str(tiny_model))
    images(two, Processes(2), model=str(tiny_model))
    assert len(list(two.glob("0*.png"))) == 4
    assert same(one, two), "the data card has the folder's name"


@pytest.mark.slow
def test_masks_are_the_same_whoever_draws_them(tmp_path, spawned):
    from skiagraph.engine.segment import SegmentConfig, segment

    rng = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(rng.integers(0, 255, (64, 48), np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_text("no picture")
    config = SegmentConfig(inputs=tuple(str(tmp_path / f"{number}.png") for number in range(6)), batch_size=2)
    for name, executor in (("a", HERE), ("b", Processes(2))):
        made = segment(config, tmp_path / name, listen=silent, executor=executor)
        assert (len(made["images"]), len(made["failed"])) == (5, 1)
    assert same(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_a_models_faults_are_told_before_anything_is_written(tiny_model, tmp_path, spawned):
    for changes, error, message in (
        ({"model": str(tiny_model), "scheduler": "Magic"}, ModelError, "no scheduler"),
        ({"model": str(tmp_path / "none")}, ModelError, "none"),
    ):
        with pytest.raises(error, match=message) as caught:
            images(tmp_path / "o", Processes(2), **changes)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "o").exists()
