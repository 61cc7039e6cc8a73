"""One runner for every verb: a folder that one run owns, and items whose finished work is never done twice.

A verb opens its folder with `open_run` and hands items with stable names to `Run.each`, with a function that turns some
of them into rows and files. Everything else is done here: resumption from the journal, files checked by hash, batches
that halve themselves when memory runs out, progress, the lock and the manifest.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from skiagraph.engine.executor import Batch, Crew, Fitting, Work
from skiagraph.engine.journal import Journal
from skiagraph.engine.manifest import FILE_NAME, open_manifest, save_manifest
from skiagraph.errors import SkiagraphError
from skiagraph.files import make_folder, remove, sha256
from skiagraph.progress import Listener, progress

JOURNAL_NAME = "journal.jsonl"
LOCK_NAME = ".lock"
CLAIMED = "claimed"
"""Stage of the journal's row that names what a run writes beside its items."""

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What became of one item: its row, and the files that were written for it, below the run's folder.

    With an `error` in place of a row the item is left out, and tried again by the next run.
    """

    row: Row | None
    files: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Kept:
    """A finished item: its row and the sha256 of each of its files."""

    row: Row
    files: dict[str, str]

    def with_hash(self) -> Row:
        """The row with `sha256`, that of the first file; None where nothing was written."""
        return {**self.row, "sha256": next(iter(self.files.values()), None)}


@dataclass(frozen=True)
class Outcome:
    """Finished items by name, in the items' order, and why each of the others failed."""

    kept: dict[str, Kept]
    failed: dict[str, str]


@contextmanager
def open_run(
    output: Path,
    verb: str,
    config: Mapping[str, Any],
    *,
    overwrite: bool = False,
    extend: Sequence[str] = (),
    listen: Listener = progress,
    **more: Any,
) -> Iterator[Run]:
    """Own a folder for one run, new or continued, until the block ends.

    Nothing is written before the first item is worked on, so a block that fails earlier leaves no folder behind.

    Args:
        output: the folder.
        verb: what is run.
        config: what the results depend on, as JSON; a run continues only one with the same.
        overwrite: remove what another run in this folder wrote, where there is one.
        extend: names in `config` that may differ from the earlier run's, whose finished items are kept.
        listen: hears of progress.
        more: further entries of a new manifest.

    Raises:
        SkiagraphError: the folder holds another run, or one that is going on now.
    """
    with _locked(output):
        if overwrite:
            _clear(output, verb, dict(config), more)
        manifest = open_manifest(output, verb, dict(config), extend=extend, **more)
        yield Run(output, manifest, listen)


class Run:
    """A run in its folder, made by `open_run`; the verb adds its results to `manifest` and calls `finish`."""

    def __init__(self, output: Path, manifest: dict[str, Any], listen: Listener) -> None:
        self.output, self.manifest, self.listen = output, manifest, listen
        self.journal = Journal(output / JOURNAL_NAME)

    def each(
        self,
        stage: str,
        items: Mapping[str, T],
        work: Work | Crew,
        *,
        batch_size: int = 1,
        goal: int | None = None,
        counts: Callable[[Row], bool] = lambda row: True,
    ) -> Outcome:
        """Have every item worked on that no earlier run has finished; each is journalled as soon as it is done.

        Args:
            stage: what is done, for progress and the journal.
            items: by name; names are the same in every run.
            work: results of some items, in their order, or workers that an executor has started. It may be called
                again with fewer where memory ran out.
            batch_size: items a call.
            goal: stop at the first batch, in the items' order, by which so many rows count; the rest is left.
            counts: which rows count.

        Raises:
            SkiagraphError: a file that a worker on another machine wrote is not in the run's folder.
        """
        finished = {n: k for n, k in self._finished(stage).items() if n in items}
        parts = [{n: items[n] for n in part} for part in batches(list(items), batch_size)]
        course = _Course(parts, finished, goal, counts)
        workers = work if isinstance(work, Crew) else Fitting(work)
        total = len(items) if goal is None else goal
        number = sum(counts(kept.row) for kept in finished.values())
        with self.listen(stage, total, done=min(total, number)) as update:
            for name, done in workers(course.open()):
                if done.row is None:
                    course.failed[name] = done.error or "failed"
                    number += goal is None
                else:
                    course.ready[name] = self._keep(stage, name, done)
                    number += counts(done.row)
                update(min(total, number))
        for kept in course.surplus():
            for file in kept.files:
                remove(self.output / file)
        return course.outcome()

    def claim(self, *names: str) -> None:
        """Note that files and folders of these names are the run's, to go when another run overwrites it."""
        if not any(row["stage"] == CLAIMED for row in self.journal.rows):
            self._append({"stage": CLAIMED, "item": "", "row": {}, "files": dict.fromkeys(names)})

    def finish(self, **results: Any) -> dict[str, Any]:
        """Write the manifest with the run's results, and return it."""
        self.manifest |= results
        save_manifest(self.output, self.manifest)
        return self.manifest

    def _finished(self, stage: str) -> dict[str, Kept]:
        """Items of a stage that the journal knows, whose files are as they were written."""
        stored = {r["item"]: Kept(r["row"], r["files"]) for r in self.journal.rows if r["stage"] == stage}
        return {name: kept for name, kept in stored.items() if self._intact(kept)}

    def _intact(self, kept: Kept) -> bool:
        paths = {self.output / name: digest for name, digest in kept.files.items()}
        return all(path.is_file() and sha256(path) == digest for path, digest in paths.items())

    def _keep(self, stage: str, name: str, done: Done) -> Kept:
        try:
            files = {file: sha256(self.output / file) for file in done.files}
        except FileNotFoundError as error:
            raise SkiagraphError(
                f"a worker's {error.filename} is not here; all machines must share the output folder, by the same path"
            ) from error
        self._append({"stage": stage, "item": name, "row": done.row, "files": files})
        return Kept(dict(done.row or {}), files)

    def _append(self, row: Row) -> None:
        if not self.journal.rows:
            save_manifest(self.output, self.manifest)
        self.journal.append(row)


class _Course:
    """How far a stage is: its parts are settled in their order, whoever finishes first, and up to the goal."""

    def __init__(
        self, parts: Sequence[Batch], ready: dict[str, Kept], goal: int | None, counts: Callable[[Row], bool]
    ) -> None:
        self.parts, self.ready, self.goal, self.counts = parts, ready, goal, counts
        self.failed: dict[str, str] = {}
        self.settled = self.counted = 0

    def open(self) -> Iterator[Batch]:
        """What is left of each part, until the goal is reached."""
        for part in self.parts:
            self._settle()
            if self._enough():
                return
            left = {name: item for name, item in part.items() if name not in self.ready}
            if left:
                yield left

    def outcome(self) -> Outcome:
        """What became of the settled parts' items."""
        self._settle()
        names = [name for part in self.parts[: self.settled] for name in part]
        return Outcome(
            {name: self.ready[name] for name in names if name in self.ready},
            {name: self.failed[name] for name in names if name in self.failed},
        )

    def surplus(self) -> list[Kept]:
        """What workers had finished beyond the goal."""
        kept = self.outcome().kept
        return [done for name, done in self.ready.items() if name not in kept]

    def _settle(self) -> None:
        while self.settled < len(self.parts) and not self._enough():
            part = self.parts[self.settled]
            if any(name not in self.ready and name not in self.failed for name in part):
                return
            self.counted += sum(self.counts(self.ready[name].row) for name in part if name in self.ready)
            self.settled += 1

    def _enough(self) -> bool:
        return self.goal is not None and self.counted >= self.goal


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of `items`, of `size` each but for the last."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def plain(config: Any, *without: str) -> dict[str, Any]:
    """A configuration (a dataclass) as JSON values, but for the fields that do not change what is made."""
    return {name: value for name, value in _json_value(asdict(config)).items() if name not in without}


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _json_value(v) for name, v in value.items()}
    return [_json_value(v) for v in value] if isinstance(value, tuple | list) else value


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Hold the folder's lock; a folder that was made for it goes again if it stays empty."""
    made = not output.exists()
    make_folder(output)
    lock = FileLock(output / LOCK_NAME, timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise SkiagraphError(
            f"another run is writing to {output} now; wait for it or choose another --output"
        ) from error
    finally:
        if made:
            _remove_if_unused(output)


def _remove_if_unused(output: Path) -> None:
    if {p.name for p in output.iterdir()} <= {LOCK_NAME}:
        (output / LOCK_NAME).unlink(missing_ok=True)
        try:
            output.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


def _clear(output: Path, verb: str, config: dict[str, Any], more: dict[str, Any]) -> None:
    """Remove another run's files, by its journal; the same run's stay, to be continued."""
    try:
        open_manifest(output, verb, config, **more)
    except SkiagraphError:
        for row in Journal(output / JOURNAL_NAME).rows:
            for file in row["files"]:
                remove(output / file)
        for name in (JOURNAL_NAME, FILE_NAME):
            remove(output / name)
