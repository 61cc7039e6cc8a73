"""The command line: one verb a file, one line per error, exit code 2 for bad input and 130 for Ctrl-C."""

from __future__ import annotations

import errno
import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from skiagraph.cli import augment, edit, generate, info, pairs, segment, train
from skiagraph.errors import SkiagraphError

UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR,
    errno.EISDIR,
)  # fmt: skip
"""What the system says of a disk that is full or a place one may not write to."""

app = typer.Typer(
    name="skiagraph",
    help="Chest X-rays nobody has: generate, train, measure. Synthetic images, not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _reported(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with errors a user can act on as one line on standard error."""

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except SkiagraphError as error:
            _end(str(error), 2)
        except KeyboardInterrupt:
            _end("stopped; what was finished is kept, the same command continues", 130)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            where = f" at {error.filename}" if error.filename else ""
            _end(f"cannot write{where}: {error.strerror}; what was finished is kept, the same command continues", 2)

    return run


app.command("generate")(_reported(generate.run))
app.command("edit")(_reported(edit.run))
app.command("pairs")(_reported(pairs.run))
app.command("segment")(_reported(segment.run))
app.command("augment")(_reported(augment.run))
app.command("train")(_reported(train.run))
app.command("info")(_reported(info.run))


def main() -> None:
    """Entry point."""
    app()


def _end(line: str, code: int) -> None:
    print(f"skiagraph: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
