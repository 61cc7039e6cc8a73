"""A worker for the tests of executors, in a module that other processes import quickly."""

import os
import signal
import time

import torch

from skiagraph.engine.job import Done
from skiagraph.errors import ReportError


def seen_gpus():
    """A worker that says which GPUs its process is shown."""
    return lambda numbers: [Done({"gpus": os.environ["CUDA_VISIBLE_DEVICES"]}) for _ in numbers]


class Squares:
    """Writes each item's square to a file; ends, fails or lacks memory where it is told to.

    `deadly` items kill their process when they are met for the first time; `pause` is what an item takes in
    seconds; the first take longer.
    """

    def __init__(
        self, folder, *, deadly=(), always_deadly=(), fails=(), wrong=None, room=99, pause=0.02, unbuildable=None
    ):
        if unbuildable:
            raise unbuildable
        self.folder, self.deadly, self.always_deadly = folder, deadly, always_deadly
        self.fails, self.wrong, self.room, self.pause = fails, wrong, room, pause

    def __call__(self, numbers):
        (self.folder / "workers").mkdir(parents=True, exist_ok=True)
        (self.folder / "workers" / str(os.getpid())).touch()
        if len(numbers) > self.room:
            raise torch.OutOfMemoryError("no room")
        for number in numbers:
            self._meet(number)
            time.sleep(0.1 if number < 2 else self.pause)
            if number in self.fails:
                yield Done(None, error=f"{number} is unreadable")
                continue
            if number == self.wrong:
                raise ReportError(f"{number} is wrong")
            (self.folder / f"{number}.txt").write_text(f"{number**2} of {len(numbers)}")
            yield Done({"square": number**2}, files=(f"{number}.txt",))

    def _meet(self, number):
        met = self.folder / "workers" / f"met-{number}"
        if number in self.always_deadly or (number in self.deadly and not met.exists()):
            met.touch()
            os.kill(os.getpid(), signal.SIGKILL)
