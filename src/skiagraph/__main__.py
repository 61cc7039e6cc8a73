"""The program `skiagraph`: the command line, and one line on Ctrl-C, also while libraries are still being imported."""

from __future__ import annotations

import signal
import sys

STOPPED = "stopped; what was finished is kept, the same command continues"


def main() -> None:
    """Entry point of the installed program and of `python -m skiagraph`; Ctrl-C ends it with exit code 130."""
    try:
        from skiagraph.cli.main import main as run

        run()
    except BaseException as error:
        stop = _interrupt(error)
        if stop is None:
            raise
        print(f"skiagraph: {stop or STOPPED}", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the process at once, without a traceback


def _interrupt(error: BaseException | None) -> str | None:
    """What the KeyboardInterrupt behind an error says, which may be nothing; None where there is none.

    Libraries that are interrupted while they are imported raise other errors from it, and Typer an exit without a word.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return str(error)
        error = error.__cause__ or error.__context__
    return None


if __name__ == "__main__":
    main()
