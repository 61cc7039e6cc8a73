"""Who works on a job's batches: this process, several processes of this machine, or a Ray cluster.

An executor builds workers from a factory and hands them whole batches. What comes back has the names of the items, so
that files and manifest are the same whoever made them; the process that called alone writes the journal.
"""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_context
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from skiagraph.devices import AUTO
from skiagraph.errors import SkiagraphError, one_line

if TYPE_CHECKING:
    from skiagraph.engine.job import Done

Work = Callable[[Sequence[Any]], Iterable["Done"]]
"""Results of some items, in their order. It may be called again with fewer where memory ran out."""

Batch = Mapping[str, Any]
"""Items by name."""

LOSSES = 3
"""Workers that may be lost over one batch before the run gives up."""

PATIENCE = 5
"""Seconds that a process has to end by itself."""


class Executor(Protocol):
    """Starts the workers of a job."""

    def start(self, factory: Callable[[], Work], device: str = AUTO) -> AbstractContextManager[Work | Crew]:
        """Workers that are ready, until the block ends.

        Args:
            factory: builds a worker; it and the items can be pickled where other processes work.
            device: where the worker's networks run, as the user named it.

        Raises:
            Exception: what the factory raised, of the same type whoever called it.
            SkiagraphError: no worker can be started.
        """


class _Here:
    """Works in this process."""

    @contextmanager
    def start(self, factory: Callable[[], Work], device: str = AUTO) -> Iterator[Work]:
        """As `Executor.start`."""
        yield factory()


HERE: Executor = _Here()
"""Works in this process."""


@dataclass(frozen=True)
class Processes:
    """Works in several processes of this machine, which share its GPUs in turn; `workers` is 0 for one on each GPU.

    A program that uses it keeps its own start below `if __name__ == "__main__"`, as Python asks of all that start
    processes.
    """

    workers: int = 0

    @contextmanager
    def start(self, factory: Callable[[], Work], device: str = AUTO) -> Iterator[Crew]:
        """As `Executor.start`."""
        gpus = _gpus(device)
        count = number_of_workers(self.workers, len(gpus), "this machine")
        with hired(partial(_Process, pickle.dumps(factory), gpus), _ready, count) as crew:
            yield crew


def make_executor(kind: str = "processes", workers: int = 1, address: str | None = None) -> Executor:
    """The executor that a user's options name.

    Args:
        kind: "processes" of this machine, or "ray".
        workers: how many work; 0 is one for each GPU of the machine or cluster.
        address: of a Ray cluster; without it, Ray finds the one it runs in or starts one on this machine.

    Raises:
        SkiagraphError: options that do not fit each other, or Ray is not installed.
    """
    if kind == "ray":
        from skiagraph.engine.ray_executor import Ray

        return Ray(workers, address)
    if address is not None:
        raise SkiagraphError("--address names a Ray cluster; give --executor ray too")
    return HERE if workers == 1 else Processes(workers)


def number_of_workers(wanted: int, gpus: int, place: str) -> int:
    """`wanted`, or for 0 one worker for each GPU.

    Raises:
        SkiagraphError: one for each GPU where there is none.
    """
    if not wanted and not gpus:
        raise SkiagraphError(f"{place} has no GPU that this run can use; say with --workers how many are to work")
    return wanted or gpus


class Fitting:
    """Calls `work` with as many items as memory holds: halves what does not fit, and remembers."""

    def __init__(self, work: Work) -> None:
        self.work, self.most = work, None

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[str, Done]]:
        """Results of the batches' items by name, one after the other."""
        for batch in batches:
            yield from zip(batch, self.fitted(list(batch.values())), strict=True)

    def fitted(self, items: Sequence[Any]) -> Iterator[Done]:
        """Results of one batch."""
        finished = 0
        while finished < len(items):
            part = items[finished : finished + (self.most or len(items))]
            try:
                for done in self.work(part):
                    finished += 1
                    yield done
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not out_of_memory(error):
                    raise
                self.most = len(part) // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, a device's or the machine's, did not suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class Answer(NamedTuple):
    """What a worker in another process has done of a batch, and the error that ended it early."""

    done: list[Done]
    error: Exception | None = None


class Remote:
    """A worker in another process, built there; its errors are answers, so that they arrive as they were raised."""

    def build(self, factory: bytes, threads: int) -> Answer:
        """Build the worker with a pickled factory; it computes with as many threads as the caller would."""
        torch.set_num_threads(threads)
        try:
            self.fitting = Fitting(pickle.loads(factory)())
        except Exception as error:
            return Answer([], _sendable(error))
        return Answer([])

    def work(self, batch: Batch) -> Answer:
        """Work on a batch."""
        done: list[Done] = []
        try:
            for _, one in self.fitting([batch]):
                done.append(one)
        except Exception as error:
            return Answer(done, _sendable(error))
        return Answer(done)


class Lost(Exception):
    """A worker that is no more."""


class Hand(Protocol):
    """The caller's side of one worker, which is being built or works on one batch at a time."""

    number: int

    def give(self, batch: Batch) -> None:
        """Have it work on a batch."""

    def take(self) -> Answer:
        """What it has done; raises `Lost`."""

    def end(self) -> None:
        """End it, whatever it does."""


class Crew:
    """Workers in other processes. A lost one is replaced, and its batch is handed to the next that is free.

    Args:
        hire: starts the worker of a number.
        ready: waits until at least one of some workers has an answer, and returns those.
        count: how many workers.
    """

    def __init__(self, hire: Callable[[int], Hand], ready: Callable[[list[Hand]], Iterable[Hand]], count: int) -> None:
        self.hire, self.ready = hire, ready
        self.idle: list[Hand] = []
        self.again: deque[Batch] = deque()
        self.losses: Counter[str] = Counter()
        self.busy: dict[Hand, Batch] = {}
        """What each works on; nothing while it is built."""
        try:
            for number in range(count):
                self.busy[hire(number)] = {}
            while not self.idle:
                list(self._answers())
        except BaseException:
            self.end()
            raise

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[str, Done]]:
        """Results of the batches' items by name, as they come; the next batch is asked for when a worker is free.

        Raises:
            Exception: what a worker raised.
            SkiagraphError: a batch over which worker after worker was lost.
        """
        coming = iter(batches)
        while True:
            while self.idle and (batch := self.again.popleft() if self.again else next(coming, None)):
                hand = self.idle.pop()
                self.busy[hand] = batch
                hand.give(batch)
            if self.idle and not any(self.busy.values()):
                return
            yield from self._answers()

    def end(self) -> None:
        """End all workers."""
        for hand in (*self.idle, *self.busy):
            hand.end()

    def _answers(self) -> Iterator[tuple[str, Done]]:
        for hand in self.ready(list(self.busy)):
            batch = self.busy[hand]
            try:
                answer = hand.take()
            except Lost as lost:
                self._replace(hand, str(lost))
                continue
            self.losses.pop(next(iter(batch), ""), None)
            self.idle.append(hand)
            del self.busy[hand]
            yield from zip(batch, answer.done, strict=answer.error is None)
            if answer.error is not None:
                raise answer.error

    def _replace(self, lost: Hand, why: str) -> None:
        lost.end()
        batch = self.busy.pop(lost)
        first = next(iter(batch), "")
        self.losses[first] += 1
        if self.losses[first] == LOSSES:
            raise SkiagraphError(
                f"{LOSSES} workers were lost {f'over {first}' if first else 'before they began'}; the last one: {why}"
            )
        if batch:
            self.again.append(batch)
        self.busy[self.hire(lost.number)] = {}


@contextmanager
def hired(hire: Callable[[int], Hand], ready: Callable[[list[Hand]], Iterable[Hand]], count: int) -> Iterator[Crew]:
    """A crew whose first worker is built, until the block ends."""
    crew = Crew(hire, ready, count)
    try:
        yield crew
    finally:
        crew.end()


class _Process:
    """A worker in a process of this machine."""

    def __init__(self, factory: bytes, gpus: Sequence[str], number: int) -> None:
        self.number = number
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        gpu = gpus[number % len(gpus)] if gpus else None
        self.process = context.Process(target=_serve, args=(theirs, factory, gpu, torch.get_num_threads()), daemon=True)
        with _deaf_to_interrupts():
            self.process.start()
        theirs.close()

    def give(self, batch: Batch) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # `take` will find that it is lost
            self.pipe.send(batch)

    def take(self) -> Answer:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            self.process.join(PATIENCE)
            raise Lost(f"its process ended with code {self.process.exitcode}; memory may have run out") from error

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


def _ready(hands: list[Hand]) -> list[Hand]:
    pipes = {hand.pipe: hand for hand in hands}
    return [pipes[pipe] for pipe in connection.wait(list(pipes))]


def _serve(pipe: connection.Connection, factory: bytes, gpu: str | None, threads: int) -> None:
    """Build a worker and work on what comes through the pipe, until its other end is closed."""
    signal.signal(signal.SIGTERM, _leave)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    remote = Remote()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(remote.build(factory, threads))
        while True:
            pipe.send(remote.work(pipe.recv()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _leave(*_: Any) -> None:
    """End the process, with all that is half written cleared away."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started here leave Ctrl-C to their parent, which ends them."""
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _gpus(device: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES says of each GPU that a run may use; none where the user named one device."""
    if device not in (AUTO, "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return (visible.split(",") if visible else [str(number) for number in range(count)])[:count]


def _sendable(error: Exception) -> Exception:
    """The error with the traceback of where it was raised; a plain one in the place of one that cannot be pickled."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {one_line(error)}")
    return error
