"""skiagraph prompts: from a bank of real reports, those that complete the cases one has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

SHOWN = 20
"""Facts in the table on the screen: those whose share changes most, or that are most common."""


def run(
    bank: Annotated[Path, typer.Argument(help="Reports to choose from: CSV with a column 'report', or one a line.")],
    output: Annotated[Path, typer.Option("-o", "--output", dir_okay=False, help="CSV file to write.")],
    count: Annotated[int, typer.Option("-n", "--n", min=1, help="Reports to choose.")],
    like: Annotated[
        Path | None, typer.Option(help="Reports whose mix of findings is wanted. [default: the bank's own]")
    ] = None,
    have: Annotated[
        Path | None, typer.Option(help="Reports of your real cases, which the chosen ones are to complete.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT where it is there.")] = False,
) -> dict[str, Any]:
    """Choose reports so that your cases and the generated ones together have the mix of findings that is wanted.

    OUTPUT is for `skiagraph generate --reports` and `skiagraph pairs --prompts`.

    Example: skiagraph prompts openi.csv --have mine.csv -n 500 -o prompts.csv
    """
    import csv
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from skiagraph.data.tables import read_reports
    from skiagraph.engine.retrieval import retrieve
    from skiagraph.errors import DataError
    from skiagraph.files import atomic_path

    if output.exists() and not overwrite:
        raise DataError(f"{output} is there already; choose another --output, or --overwrite")
    found = retrieve(
        read_reports(bank), count, like=None if like is None else read_reports(like),
        have=() if have is None else read_reports(have),
    )  # fmt: skip
    with atomic_path(output) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["report"])
        writer.writerows([report] for report in found.reports)
    table = Table("fact", "wanted", "before", "after", title=f"{count} of {bank}, in {output}")
    before = found.before or {}
    for name in sorted(found.target, key=lambda n: -max(found.target[n], before.get(n, 0.0)))[:SHOWN]:
        had = f"{before[name]:.1%}" if name in before else "-"
        table.add_row(name, f"{found.target[name]:.1%}", had, f"{found.after[name]:.1%}")
    Console().print(table)
    return asdict(found)
