"""How far long work is and how long it will take: a bar on a terminal, a line every half minute in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30


_hushed: ContextVar[bool] = ContextVar("hushed", default=False)


class Update(Protocol):
    """Says how many are done now, and something about the last one."""

    def __call__(self, done: int, note: str = "") -> None: ...


class Listener(Protocol):
    """Hears of long work: opened with a title, how many there are and how many are done, then told each step."""

    def __call__(self, title: str, total: int, *, done: int = 0) -> AbstractContextManager[Update]: ...


@contextmanager
def progress(title: str, total: int, *, done: int = 0, quiet: bool = False) -> Iterator[Update]:
    """Show progress on standard error until the block ends.

    Args:
        title: what is being done.
        total: how many there are.
        done: how many an earlier run has done; they do not count for the estimate.
        quiet: show nothing.

    Yields:
        A function to be called with the number done.
    """
    quiet = quiet or _hushed.get()
    console = Console(stderr=True, quiet=quiet)
    started = last_line = time.monotonic()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")

        def update(now: int, note: str = "") -> None:
            nonlocal last_line
            bar.update(task, completed=now, note=note)
            moment = time.monotonic()
            if console.is_terminal or moment - last_line < SECONDS_BETWEEN_LINES or now <= done:
                return
            last_line = moment
            left = (moment - started) / (now - done) * (total - now) / 60
            console.print(f"{title}: {now} of {total}, about {left:.1f} min left{note and ', '}{note}", soft_wrap=True)

        yield update


silent: Listener = partial(progress, quiet=True)
"""Shows nothing."""


@contextmanager
def quietly() -> Iterator[None]:
    """Show no progress until the block ends, whoever reports it."""
    token = _hushed.set(True)
    try:
        yield
    finally:
        _hushed.reset(token)
