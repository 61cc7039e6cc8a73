"""Runs whose folder is at a URL: `s3://bucket/run` and whatever else fsspec knows.

A verb works in a folder of this machine; the URL is kept the same as it. What a row of the journal names is sent before
the journal is, so a run that is killed goes on from the URL, on any machine, and nothing half-sent counts as done.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import fsspec
from filelock import FileLock, Timeout

from skiagraph.engine.job import JOURNAL_NAME
from skiagraph.errors import SkiagraphError, one_line
from skiagraph.files import make_folder, remove

CLAIM = "running.json"
"""Object at the URL that says who works on the run, and when it was last seen."""

WITH_FOLDERS = frozenset(("file", "memory", "sftp", "ssh", "smb", "hdfs", "webhdfs", "arrow_hdfs"))
"""Protocols of fsspec under which a file needs a folder."""

LEAST_SECONDS = 10.0
"""Between two sendings; more where sending takes long, so that it takes a tenth of the time at most."""

STALE_SECONDS = 180.0
"""After which another machine's claim is taken for that of a run that was killed."""


def url_of(output: str | Path) -> str | None:
    """The URL that an output names, also after `Path` has taken one of its slashes; None for a folder."""
    found = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.*)", str(output))
    if found is None:
        return None
    return f"file:///{found[2]}" if found[1] == "file" else f"{found[1]}://{found[2]}"


@contextmanager
def mirrored(url: str) -> Iterator[Path]:
    """A folder of this machine with what is at the URL; what is written into it is at the URL when the block ends.

    Where the block fails, so is what was finished, if the URL can still be written to; else it stays in the folder, and
    goes there with the next run of the same URL on this machine.

    Raises:
        SkiagraphError: no such protocol or its package is missing, a place that cannot be read or written, or a run
            that another machine is working on now.
    """
    folder = _cache() / hashlib.sha256(url.encode()).hexdigest()[:16]
    make_folder(folder)
    try:
        with FileLock(folder.with_suffix(".lock"), timeout=0):
            mirror = _Mirror(url, folder)
            mirror.fetch()
            with mirror.sending():
                yield folder
            remove(folder)
    except Timeout as error:
        raise SkiagraphError(f"another run is writing to {url} now; wait for it or choose another --output") from error


class _Mirror:
    """Files of a folder and what of them is at a URL."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.sent: dict[str, tuple[int, int]] = {}
        with self._named("is not reachable"):
            self.files, root = fsspec.url_to_fs(url)
            self.root = root.rstrip("/")

    def fetch(self) -> None:
        """Bring here what is at the URL, unless this machine's folder has gone on from it.

        Raises:
            SkiagraphError: the URL cannot be read, or another machine is working there.
        """
        with self._named("cannot be read"):
            self.files.invalidate_cache()
            there = self.files.find(self.root, detail=True) if self.files.exists(self.root) else {}
            sizes = {name.removeprefix(f"{self.root}/"): info["size"] for name, info in there.items()}
            if CLAIM in sizes:
                self._check_free(json.loads(self.files.cat_file(f"{self.root}/{CLAIM}")))
            journal = self.files.cat_file(f"{self.root}/{JOURNAL_NAME}") if JOURNAL_NAME in sizes else b""
            if not self._ahead(journal):
                self._take(sizes)
            self.sent = {name: self._state(name) for name in sizes if (self.folder / name).is_file()}
            self.claim()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send what changes every few seconds, and what is left at the end."""
        over = Event()
        sender = Thread(target=self._keep_sending, args=(over,), daemon=True)
        sender.start()
        try:
            yield
        finally:
            over.set()
            sender.join()
            with self._named(f"cannot be written; what was finished is in {self.folder}, the same command goes on"):
                self.send()
                self.files.rm_file(f"{self.root}/{CLAIM}")

    def send(self) -> None:
        """Make the URL the same as the folder; the journal goes last, as it was before the files were looked at.

        Raises:
            SkiagraphError: another machine has taken the run over, for this one was silent for too long.
        """
        if not self._own(json.loads(self.files.cat_file(f"{self.root}/{CLAIM}"))):
            raise SkiagraphError(f"another machine has taken over {self.url}; nothing more is sent from here")
        path = self.folder / JOURNAL_NAME
        journal = path.read_bytes() if path.is_file() else None
        here = {name: self._state(name) for name in self._names()}
        for name in [n for n in self.sent if n not in here and n != JOURNAL_NAME]:
            self.files.rm_file(f"{self.root}/{name}")
            del self.sent[name]
        for name in [n for n, state in here.items() if self.sent.get(n) != state]:
            self._make_room(name)
            self.files.put_file(str(self.folder / name), f"{self.root}/{name}")
            self.sent[name] = here[name]
        if journal is not None and self.sent.get(JOURNAL_NAME) != (len(journal), 0):
            self._put(JOURNAL_NAME, journal)
            self.sent[JOURNAL_NAME] = (len(journal), 0)

    def claim(self) -> None:
        """Say at the URL that this machine is working on it."""
        said = {"host": socket.gethostname(), "folder": str(self.folder), "seen": time.time()}
        self._put(CLAIM, json.dumps(said).encode())

    def _keep_sending(self, over: Event) -> None:
        pause = LEAST_SECONDS
        while not over.wait(pause):
            begun = time.monotonic()
            try:
                self.send()
                self.claim()
            except Exception:  # a network comes back; the last sending says what did not get there
                continue
            finally:
                pause = max(LEAST_SECONDS, 9 * (time.monotonic() - begun))

    def _own(self, claim: dict[str, Any]) -> bool:
        return (claim["host"], claim["folder"]) == (socket.gethostname(), str(self.folder))

    def _check_free(self, claim: dict[str, Any]) -> None:
        if not self._own(claim) and time.time() - claim["seen"] < STALE_SECONDS:
            raise SkiagraphError(
                f"{claim['host']} is writing to {self.url} now; wait for it, or {STALE_SECONDS:.0f} s if it was killed"
            )

    def _ahead(self, journal: bytes) -> bool:
        """Whether the folder's journal begins with the URL's and has more; what it names is then here too."""
        path = self.folder / JOURNAL_NAME
        own = path.read_bytes() if path.is_file() else b""
        return len(own) > len(journal) and own.startswith(journal)

    def _take(self, sizes: dict[str, int]) -> None:
        """Make the folder the same as the URL; a file of the same size stays, for the run looks at its hash."""
        for name in self._names():
            if name not in sizes:
                remove(self.folder / name)
        for name, size in sizes.items():
            path = self.folder / name
            if name != CLAIM and not (path.is_file() and path.stat().st_size == size and "/" in name):
                make_folder(path.parent)
                self.files.get_file(f"{self.root}/{name}", str(path))

    def _names(self) -> list[str]:
        """Files of the folder that belong at the URL, but for the journal."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        names = (path.relative_to(self.folder) for path in files)
        return sorted(
            n.as_posix() for n in names if not any(part.startswith(".") for part in n.parts) and n.name != JOURNAL_NAME
        )

    def _state(self, name: str) -> tuple[int, int]:
        status = (self.folder / name).stat()
        return (status.st_size, 0) if name == JOURNAL_NAME else (status.st_size, status.st_mtime_ns)

    def _put(self, name: str, content: bytes) -> None:
        self._make_room(name)
        self.files.pipe_file(f"{self.root}/{name}", content)

    def _make_room(self, name: str) -> None:
        """Make the folder of a file, where there are folders: elsewhere a typing error would become a bucket."""
        protocols = self.files.protocol if isinstance(self.files.protocol, tuple) else (self.files.protocol,)
        if WITH_FOLDERS.intersection(protocols):
            self.files.makedirs(f"{self.root}/{name}".rsplit("/", 1)[0], exist_ok=True)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """What fsspec and its packages raise, of many classes, as one error that names the URL."""
        try:
            yield
        except SkiagraphError:
            raise
        except ImportError as error:
            raise SkiagraphError(f"{self.url} {what}: {one_line(error)}") from error
        except Exception as error:
            raise SkiagraphError(f"{self.url} {what}: {type(error).__name__} {one_line(error)}") from error


def _cache() -> Path:
    """Where the folders of runs at URLs are while they last."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skiagraph" / "runs"
