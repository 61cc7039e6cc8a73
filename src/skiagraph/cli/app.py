"""skiagraph app: the web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def run(
    output: Annotated[
        Path, typer.Option("-o", "--output", file_okay=False, help="Folder below which every run gets one.")
    ] = Path("skiagraph-runs"),
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder below which Evaluate may read.")
    ] = Path("."),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
) -> dict[str, Any]:
    """Serve a page with Generate, Edit, Pairs, Segment and Evaluate on this machine; needs the extra "app".

    There is no log-in: whoever reaches the address can use it.

    Example: skiagraph app -o runs
    """
    from skiagraph.errors import SkiagraphError

    try:
        from skiagraph.app.page import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise SkiagraphError("the page needs gradio; run: pip install 'skiagraph[app]'") from error
    return {"address": serve(output, data, host=host, port=port)}
