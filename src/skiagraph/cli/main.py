"""The command line: one verb a file, one line per error and exit code 2 for bad input.

Verbs import what they need when they run, so that help, completion and typos answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from skiagraph import __version__
from skiagraph.cli import app as page
from skiagraph.cli import (
    augment,
    convert,
    edit,
    evaluate,
    export_set,
    generate,
    import_set,
    info,
    pairs,
    prompts,
    pull,
    push,
    segment,
    study,
    train,
)
from skiagraph.cli.verb import verb

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


app.command("generate")(verb(generate.run))
app.command("edit")(verb(edit.run))
app.command("pairs")(verb(pairs.run))
app.command("prompts")(verb(prompts.run))
app.command("segment")(verb(segment.run))
app.command("augment")(verb(augment.run))
app.command("evaluate")(verb(evaluate.run))
app.command("study")(verb(study.run))
app.command("train")(verb(train.run))
app.command("import")(verb(import_set.run))
app.command("export")(verb(export_set.run))
app.command("pull")(verb(pull.run))
app.command("push")(verb(push.run))
app.command("convert")(verb(convert.run))
app.command("info")(verb(info.run))
app.command("app")(verb(page.run))


def main() -> None:
    """Run the verb that the program's arguments name; `skiagraph.__main__` is the entry point."""
    app()
