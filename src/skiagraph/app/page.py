"""The whole page, and the server of it."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr

from skiagraph.app import edit, evaluate, generate, pairs, segment
from skiagraph.app.runs import Runs

TITLE = "skiagraph"
NOTE = "Every picture made here is synthetic and says so in its file. **Not for clinical use.**"
LARGEST = "100mb"
"""Of an uploaded file."""

THEME = gr.themes.Base(
    primary_hue="amber", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)
"""Fonts of the reader's machine, since the page asks no other server for anything."""


def build(runs: Path, data: Path) -> gr.Blocks:
    """The page.

    Args:
        runs: folder below which each run gets a folder.
        data: folder below which the tab Evaluate may read.
    """
    started = Runs(runs)
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(f"# {TITLE}\n{NOTE}")
        for name, lay_out in {
            "Generate": generate.tab, "Edit": edit.tab, "Pairs": pairs.tab, "Segment": segment.tab,
        }.items():  # fmt: skip
            with gr.Tab(name):
                lay_out(started)
        with gr.Tab("Evaluate"):
            evaluate.tab(started, data)
    return page


def serve(runs: Path, data: Path, *, host: str, port: int, block: bool = True) -> str:
    """Serve the page, until Ctrl-C if it is to block.

    Returns:
        Its address.

    Raises:
        OSError: the port is taken.
    """
    page = build(runs, data)
    _, address, _ = page.queue(max_size=20).launch(
        server_name=host, server_port=port, share=False, prevent_thread_lock=True, quiet=True, ssr_mode=False,
        max_file_size=LARGEST, allowed_paths=[str(runs.resolve())], theme=THEME, footer_links=[],
    )  # fmt: skip
    print(f"{TITLE} at {address}; Ctrl-C ends it")
    if block:
        page.block_thread()
    return address
