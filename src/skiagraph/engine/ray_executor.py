"""Workers on the machines of a Ray cluster. All machines see the output folder, by the same path."""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from skiagraph.devices import AUTO
from skiagraph.engine.executor import Answer, Batch, Crew, Lost, Remote, Work, hired, number_of_workers
from skiagraph.errors import SkiagraphError, one_line

SECONDS_TO_ANSWER = 10


@dataclass(frozen=True)
class Ray:
    """Works in actors of a Ray cluster, one on each GPU where it has some; `workers` is 0 for all of its GPUs.

    `address` is the cluster's; without it, Ray finds the one it runs in or starts one on this machine. Actors beyond
    what the cluster has room for begin as room comes. Paths that are not absolute mean the same as for the caller on
    machines that have the caller's folder.
    """

    workers: int = 1
    address: str | None = None

    @contextmanager
    def start(self, factory: Callable[[], Work], device: str = AUTO) -> Iterator[Crew]:
        """As `Executor.start`; also raises SkiagraphError where Ray is not installed or not reached."""
        with _connected(self.address) as ray:
            gpus = int(ray.cluster_resources().get("GPU", 0)) if device in (AUTO, "cuda") else 0
            count = number_of_workers(self.workers, gpus, "the Ray cluster")
            options = {"num_cpus": 1, "num_gpus": min(gpus, 1), "scheduling_strategy": "SPREAD"}
            actors = ray.remote(**options)(_RayWorker)
            with hired(partial(_Actor, ray, actors, pickle.dumps(factory)), partial(_ready, ray), count) as crew:
                yield crew


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected until the block ends; a connection that was there before stays."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise SkiagraphError("Ray is not installed; pip install 'skiagraph[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    try:
        _knock(address or "")
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise SkiagraphError(f"no Ray cluster is reached at {address or 'this machine'}: {one_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody answers at an address with a port; Ray itself would ask for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()


class _RayWorker:
    """A worker as Ray starts it, in the caller's folder where its machine has that."""

    def __init__(self, folder: str) -> None:
        with suppress(OSError):
            os.chdir(folder)
        self.remote = Remote()

    def build(self, factory: bytes, threads: int) -> Answer:
        return self.remote.build(factory, threads)

    def work(self, batch: Batch) -> Answer:
        return self.remote.work(batch)


class _Actor:
    """The caller's side of an actor."""

    def __init__(self, ray: Any, actors: Any, factory: bytes, number: int) -> None:
        self.ray, self.number = ray, number
        self.actor = actors.remote(os.getcwd())
        self.answer = self.actor.build.remote(factory, torch.get_num_threads())

    def give(self, batch: Batch) -> None:
        self.answer = self.actor.work.remote(batch)

    def take(self) -> Answer:
        try:
            return self.ray.get(self.answer)
        except self.ray.exceptions.RayError as error:
            raise Lost(one_line(error)) from error

    def end(self) -> None:
        self.ray.kill(self.actor)


def _ready(ray: Any, hands: list[_Actor]) -> list[_Actor]:
    answers = {hand.answer: hand for hand in hands}
    found, _ = ray.wait(list(answers))
    return [answers[answer] for answer in found]
