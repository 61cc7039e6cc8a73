"""What all verbs share: options of a run's report, options from a file, one line per error, and exit codes."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, get_type_hints

import typer

from skiagraph.errors import SkiagraphError
from skiagraph.models.hub import downloads

UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR,
    errno.EISDIR,
)  # fmt: skip
"""What the system says of a disk that is full or a place one may not write to."""


def verb(run: Callable[..., dict[str, Any]]) -> Callable[..., None]:
    """A verb as the command line calls it, from the function that does its work and returns what it found.

    The result's `failed` inputs make the exit code 1; errors a user can act on are one line on standard error and exit
    code 2.
    """

    @functools.wraps(run)
    def called(*, as_json: bool, quiet: bool, config: Path | None, allow_download: bool, **options: Any) -> None:
        try:
            with contextlib.ExitStack() as around:
                if as_json or quiet:
                    around.enter_context(_hushed())
                if allow_download:
                    around.enter_context(downloads())
                if options.get("output") is not None:
                    options["output"] = around.enter_context(_place(options["output"]))
                _warn_of_emulation(options)
                result = run(**options)
        except SkiagraphError as error:
            _end(str(error), 2)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            where = f" at {error.filename}" if error.filename else ""
            _end(f"cannot write{where}: {error.strerror}; what was finished is kept, the same command continues", 2)
        if as_json:
            typer.echo(json.dumps(result, indent=1, default=str))
        if result.get("failed"):
            raise typer.Exit(1)

    return _with_signature(called, run)


def _warn_of_emulation(options: dict[str, Any]) -> None:
    """Say on standard error that a half precision was asked for which this machine computes slowly."""
    dtype = options.get("dtype")
    if "device" not in options or dtype in (None, "float32"):
        return
    import torch

    from skiagraph.devices import emulates, usable_device

    if emulates(getattr(torch, dtype), usable_device(options["device"])):
        typer.echo(f"warning: this machine only emulates {dtype}, many times slower than float32", err=True)


def _read(context: typer.Context, path: Path | None) -> Path | None:
    """Make a file's values the defaults of the verb's options."""
    if path is None:
        return None
    import yaml

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        _end(f"{path} cannot be read as YAML: {error}", 2)
    if not isinstance(given, dict):
        _end(f"{path} holds no options; write lines such as 'steps: 20'", 2)
    names = {_plain(option): parameter.name for parameter in context.command.params for option in parameter.opts}
    for name in given:
        if _plain(name) not in names:
            _end(f"{path}: {context.info_name} has no option {name!r}; see --help", 2)
    context.default_map = {names[_plain(name)]: value for name, value in given.items()}
    return path


def _plain(option: Any) -> str:
    return str(option).lstrip("-").replace("-", "_")


def _with_options(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON, and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors alone.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            is_eager=True,
            dir_okay=False,
            callback=_read,
            help="YAML file of this verb's options; those of the command line go first.",
        ),
    ] = None,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Fetch models that are named by a Hub id and are not here.")
    ] = False,
) -> None:
    """The options that every verb has."""  # fmt: skip


def _with_signature(called: Callable[..., None], run: Callable[..., Any]) -> Callable[..., None]:
    """`called` with the parameters of `run` and the common ones, which Typer reads from the signature."""
    parameters, hints = [], {}
    for function in (run, _with_options):
        hints |= get_type_hints(function, include_extras=True)
        parameters += inspect.signature(function).parameters.values()
    hints["return"] = None
    parameters = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    called.__signature__ = inspect.Signature(parameters)
    called.__annotations__ = hints
    return called


@contextlib.contextmanager
def _place(output: Path) -> Iterator[Path]:
    """The folder itself or, for a URL, one of this machine that is kept the same; what is said names the URL."""
    from skiagraph.engine.mirror import mirrored, url_of

    url = url_of(output)
    if url is None:
        yield output
        return
    with mirrored(url) as folder, contextlib.redirect_stdout(_Renamed(sys.stdout, str(folder), url)):
        try:
            yield folder
        except SkiagraphError as error:
            raise type(error)(str(error).replace(str(folder), url)) from error


class _Renamed(io.TextIOBase):
    """A stream in which one name takes the place of another."""

    def __init__(self, stream: TextIO, old: str, new: str) -> None:
        self.stream, self.old, self.new = stream, old, new

    def write(self, text: str) -> int:
        self.stream.write(text.replace(self.old, self.new))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """No progress, and nothing on standard output."""
    from skiagraph.progress import quietly

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), quietly():
        yield


def _end(line: str, code: int) -> NoReturn:
    print(f"skiagraph: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(code)
