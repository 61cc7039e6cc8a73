"""The runner: what is finished is never done twice, lost, mixed or overwritten."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiagraph.engine.executor import out_of_memory
from skiagraph.engine.job import Done, batches, open_run
from skiagraph.errors import SkiagraphError
from skiagraph.progress import silent

ITEMS = {str(n): n for n in range(7)}


class Worker:
    """Writes each item's square to a file; stops, fails or lacks memory where it is told to."""

    def __init__(self, folder, *, stop_at=None, fails=(), room=99):
        self.folder, self.stop_at, self.fails, self.room = folder, stop_at, fails, room
        self.seen, self.calls = [], []

    def __call__(self, numbers):
        self.calls.append(len(numbers))
        if len(numbers) > self.room:
            raise torch.OutOfMemoryError("no room")
        for number in numbers:
            if number == self.stop_at:
                raise KeyboardInterrupt
            self.seen.append(number)
            if number in self.fails:
                yield Done(None, error=f"{number} is unreadable")
                continue
            (self.folder / f"{number}.txt").write_text(str(number**2))
            yield Done({"square": number**2}, files=(f"{number}.txt",))


def run(folder, worker=None, config=None, *, batch_size=3, items=ITEMS, **more):
    goal = {name: more.pop(name) for name in ("goal", "counts") if name in more}
    with open_run(folder, "square", config or {"a": 1}, listen=silent, rows=[], **more) as job:
        outcome = job.each("squaring", items, worker or Worker(folder), batch_size=batch_size, **goal)
        rows = [kept.with_hash() for kept in outcome.kept.values()]
        return job.finish(rows=rows, failed=outcome.failed)


def test_rows_come_in_the_items_order_with_the_hash_of_their_file(tmp_path):
    manifest = run(tmp_path)
    assert [row["square"] for row in manifest["rows"]] == [n**2 for n in range(7)]
    assert len({row["sha256"] for row in manifest["rows"]}) == 7
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())


@pytest.mark.parametrize("stop_at", range(7))
def test_a_stopped_run_goes_on_where_it_was(tmp_path, stop_at):
    first, second = Worker(tmp_path, stop_at=stop_at), Worker(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    manifest = run(tmp_path, second)
    assert first.seen + second.seen == list(range(7))
    assert [row["square"] for row in manifest["rows"]] == [n**2 for n in range(7)]


def test_what_was_damaged_or_lost_is_made_again_alone(tmp_path):
    whole = run(tmp_path)
    (tmp_path / "2.txt").write_text("")
    (tmp_path / "5.txt").unlink()
    again = Worker(tmp_path)
    assert run(tmp_path, again)["rows"] == whole["rows"]
    assert again.seen == [2, 5]


def test_failed_items_are_named_and_tried_again(tmp_path):
    manifest = run(tmp_path, Worker(tmp_path, fails=(1, 6)))
    assert manifest["failed"] == {"1": "1 is unreadable", "6": "6 is unreadable"}
    again = Worker(tmp_path)
    assert run(tmp_path, again)["failed"] == {}
    assert again.seen == [1, 6]


def test_batches_halve_until_memory_suffices_and_stay_so(tmp_path):
    worker = Worker(tmp_path, room=1)
    manifest = run(tmp_path, worker, batch_size=4)
    assert [row["square"] for row in manifest["rows"]] == [n**2 for n in range(7)]
    assert worker.calls == [4, 2, *[1] * 7]


def test_one_item_that_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(torch.OutOfMemoryError):
        run(tmp_path / "o", Worker(tmp_path, room=0))
    assert not (tmp_path / "o").exists()
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_goal_ends_the_run_and_is_the_same_after_a_stop(tmp_path):
    even = {"goal": 2, "counts": lambda row: row["square"] % 2 == 0}
    whole = run(tmp_path / "a", Worker(tmp_path / "a"), batch_size=1, **even)
    assert [row["square"] for row in whole["rows"]] == [0, 1, 4]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", Worker(tmp_path / "b", stop_at=1), batch_size=1, **even)
    assert run(tmp_path / "b", Worker(tmp_path / "b"), batch_size=1, **even)["rows"] == whole["rows"]


def test_another_run_is_neither_continued_nor_touched(tmp_path):
    before = run(tmp_path)
    for config, weights in (({"a": 2}, None), ({"a": 1}, {"w": "1"})):
        with pytest.raises(SkiagraphError, match=r"another run|other weights"):
            run(tmp_path, config=config, weights=weights)
    assert run(tmp_path)["rows"] == before["rows"]


def test_overwriting_removes_the_other_run_and_nothing_else(tmp_path):
    run(tmp_path)
    (tmp_path / "mine.txt").write_text("kept")
    few = {"0": 0}
    run(tmp_path, config={"a": 2}, items=few, overwrite=True)
    assert {p.name for p in tmp_path.glob("*.txt")} == {"0.txt", "mine.txt"}
    again = Worker(tmp_path)
    run(tmp_path, again, config={"a": 2}, items=few, overwrite=True)
    assert again.seen == [], "the same run is continued, not made again"


def test_an_extended_run_keeps_what_it_has(tmp_path):
    run(tmp_path, config={"a": 1, "items": 2}, items={"0": 0, "1": 1})
    worker = Worker(tmp_path)
    manifest = run(tmp_path, worker, config={"a": 1, "items": 7}, extend=("items",))
    assert worker.seen == [2, 3, 4, 5, 6]
    assert manifest["config"] == {"a": 1, "items": 7}
    with pytest.raises(SkiagraphError, match="another run"):
        run(tmp_path, config={"a": 2, "items": 7}, extend=("items",))


def _holds(folder, ready, leave):
    with open_run(folder, "square", {"a": 1}, listen=silent) as job:
        job.finish()
        ready.set()
        leave.wait(30)


def test_two_runs_in_one_folder_are_refused(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=_holds, args=(tmp_path, ready, leave))
    other.start()
    assert ready.wait(30)
    with pytest.raises(SkiagraphError, match="another run is writing"):
        run(tmp_path)
    leave.set()
    other.join()
    assert len(run(tmp_path)["rows"]) == 7


def test_nothing_is_left_of_a_run_that_never_began(tmp_path):
    with pytest.raises(ValueError, match="early"), open_run(tmp_path / "o", "square", {}, listen=silent):
        raise ValueError("early")
    assert not (tmp_path / "o").exists()


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batches_are_consecutive_and_whole(items, size):
    parts = list(batches(items, size))
    assert [x for part in parts for x in part] == items
    assert all(len(part) == size for part in parts[:-1])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the system has no /proc")
def test_a_place_where_no_folder_can_be_made_is_told_in_one_line():
    with pytest.raises(SkiagraphError, match="no folder can be made at /proc/nowhere"):
        run(Path("/proc/nowhere"))
