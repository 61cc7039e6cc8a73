"""The command line, run in the tests' own process."""

import sys

from skiagraph.cli.main import main


def skiagraph(monkeypatch, *arguments):
    """Run in this process; the exit code."""
    monkeypatch.setattr(sys, "argv", ["skiagraph", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0
