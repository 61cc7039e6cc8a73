"""The command line: one verb a file, one line per error and exit code 2 for bad input.

Verbs import what they need when they run, so that help, completion and typos answer at once.
"""

from __future__ import annotations

import errno
import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from skiagraph import __version__
from skiagraph.cli import (
    augment,
    edit,
    evaluate,
    export_set,
    generate,
    import_set,
    info,
    pairs,
    prompts,
    segment,
    study,
    train,
)
from skiagraph.errors import SkiagraphError

UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR,
    errno.EISDIR,
)  # fmt: skip
"""What the system says of a disk that is full or a place one may not write to."""

app = typer.Typer(name="skiagraph", no_args_is_help=True, pretty_exceptions_enable=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skiagraph {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Chest X-rays nobody has: generate, train, measure. Synthetic images, not for clinical use."""


def _reported(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with errors a user can act on as one line on standard error."""

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except SkiagraphError as error:
            _end(str(error), 2)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            where = f" at {error.filename}" if error.filename else ""
            _end(f"cannot write{where}: {error.strerror}; what was finished is kept, the same command continues", 2)

    return run


app.command("generate")(_reported(generate.run))
app.command("edit")(_reported(edit.run))
app.command("pairs")(_reported(pairs.run))
app.command("prompts")(_reported(prompts.run))
app.command("segment")(_reported(segment.run))
app.command("augment")(_reported(augment.run))
app.command("evaluate")(_reported(evaluate.run))
app.command("study")(_reported(study.run))
app.command("train")(_reported(train.run))
app.command("import")(_reported(import_set.run))
app.command("export")(_reported(export_set.run))
app.command("info")(_reported(info.run))


def main() -> None:
    """Run the verb that the program's arguments name; `skiagraph.__main__` is the entry point."""
    app()


def _end(line: str, code: int) -> None:
    print(f"skiagraph: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(code)
