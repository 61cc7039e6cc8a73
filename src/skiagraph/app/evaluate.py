"""The tab Evaluate: folders of real and synthetic pictures to a report."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from skiagraph.app.runs import PROGRESS, Buttons, Runs, offered
from skiagraph.engine.evaluate import PAGE, EvaluateConfig, evaluate
from skiagraph.errors import DataError, one_line


def tab(runs: Runs, data: Path) -> None:
    """Lay the tab out; folders lie below `data` or are earlier runs."""

    def run(real: str, synthetic: str, train: str, shown: gr.Progress = PROGRESS) -> list[Any]:
        allowed = (data.resolve(), runs.root)
        try:
            config = EvaluateConfig(
                within(real, *allowed), within(synthetic, *allowed), within(train, *allowed) if train.strip() else None
            )
        except DataError as error:
            raise gr.Error(one_line(error), print_exception=False) from error
        folder, _ = runs.start("evaluate", lambda to, listen: evaluate(config, to, listen=listen), shown)
        page = html.escape((folder / PAGE).read_text(encoding="utf-8"))
        frame = f'<iframe title="report" srcdoc="{page}" style="width:100%;height:80vh;border:0"></iframe>'
        return [frame, f"Report and numbers in `{folder}`", offered(runs, folder)]

    gr.Markdown(f"Folders below `{data}`, or of runs of this page. `FOLDER:test` takes one split of a data set.")
    real = gr.Textbox(label="Real pictures", placeholder="mine:test")
    synthetic = gr.Textbox(label="Synthetic pictures", placeholder="generate-20260101-120000")
    train = gr.Textbox(label="What the generator was trained on, to look for copies; may be empty")
    buttons = Buttons(runs, "Evaluate")
    told = gr.Markdown()
    report = gr.HTML()
    buttons.start(run, [real, synthetic, train], [report, told])


def within(text: str, *roots: Path) -> str:
    """A folder that is named relative to one of the roots, as a path; a split after a colon stays.

    Raises:
        DataError: no such folder in any of them; paths that lead elsewhere are not followed.
    """
    name, colon, split = text.strip().partition(":")
    for root in roots:
        path = (root / name).resolve()
        if name and path.is_dir() and path.is_relative_to(root):
            return f"{path}{colon}{split}"
    raise DataError(f"no folder {text!r} below {' or '.join(map(str, roots))}")
