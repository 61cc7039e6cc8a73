"""Runs that the page starts: a folder for each, progress on the page, a way to stop, errors as messages."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from skiagraph.errors import SkiagraphError, one_line
from skiagraph.files import make_folder
from skiagraph.progress import Listener, Update

T = TypeVar("T")

JOBS = "jobs"
"""Name of the queue that all runs wait in, so that one runs at a time."""


PROGRESS = gr.Progress()
"""Default of an argument that is to be the page's progress bar."""


class Stopped(SkiagraphError):
    """Someone pressed Stop."""


class Runs:
    """Starts runs one after the other, each in a folder of its own below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        make_folder(self.root)
        self._stop = threading.Event()

    def start(self, verb: str, work: Callable[[Path, Listener], T], shown: gr.Progress) -> tuple[Path, T]:
        """Do some work in a new folder.

        Args:
            verb: what the folder is named after, with the time.
            work: what is done; it gets the folder and a listener of its progress.
            shown: the page's progress bar.

        Returns:
            The folder, and what the work returned.

        Raises:
            gr.Error: bad input, or Stop was pressed; the page shows its line.
        """
        self._stop.clear()
        folder = self._new_folder(verb)
        shown(0, desc="loading the model")
        try:
            return folder, work(folder, self._listener(shown))
        except SkiagraphError as error:
            raise gr.Error(one_line(error), duration=None, print_exception=False) from error

    def stop(self) -> None:
        """Stop the run that is going on, after the picture it is at; what is finished stays in its folder."""
        self._stop.set()

    def archive(self, folder: Path) -> str:
        """A run's folder as a zip file beside it."""
        return shutil.make_archive(str(folder), "zip", folder)

    def _new_folder(self, verb: str) -> Path:
        stem = f"{verb}-{time.strftime('%Y%m%d-%H%M%S')}"
        names = (stem if not number else f"{stem}-{number}" for number in range(1000))
        return next(self.root / name for name in names if not (self.root / name).exists())

    def _listener(self, shown: gr.Progress) -> Listener:
        @contextmanager
        def listen(title: str, total: int, *, done: int = 0) -> Iterator[Update]:
            def update(now: int, note: str = "") -> None:
                if self._stop.is_set():
                    raise Stopped("stopped; what was finished is in the folder of the run")
                shown((now, total), desc=f"{title} {note}".strip())

            update(done)
            yield update

        return listen


class Buttons:
    """A row of Run, Stop and Download."""

    def __init__(self, runs: Runs, label: str) -> None:
        with gr.Row():
            self.run = gr.Button(label, variant="primary")
            gr.Button("Stop", variant="stop").click(runs.stop, queue=False, api_visibility="private")
            self.download = gr.DownloadButton("Download as zip", interactive=False)

    def start(self, work: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
        """Have Run do the work; its last result is for Download."""
        self.run.click(work, inputs, [*outputs, self.download], concurrency_id=JOBS, concurrency_limit=1)


def offered(runs: Runs, folder: Path) -> gr.DownloadButton:
    """The download button once there is something to download."""
    return gr.DownloadButton(value=runs.archive(folder), interactive=True)
