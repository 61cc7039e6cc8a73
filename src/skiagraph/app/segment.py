"""The tab Segment: pictures to masks."""

from __future__ import annotations

import csv
from typing import Any

import gradio as gr

from skiagraph.app.runs import PROGRESS, Buttons, Runs, offered
from skiagraph.engine.contact_sheet import SHEET_NAME
from skiagraph.engine.segment import TABLE_NAME, SegmentConfig, segment

PICTURES = [".png", ".jpg", ".jpeg", ".dcm"]
MODELS = ["lung-segmenter", "lung-field-segmenter", "lung-segmenter-latent"]


def tab(runs: Runs) -> None:
    """Lay the tab out."""

    def run(files: list[str] | None, model: str, shown: gr.Progress = PROGRESS) -> list[Any]:
        if not files:
            raise gr.Error("choose pictures first", print_exception=False)
        config = SegmentConfig(tuple(files), model, batch_size=1)
        folder, manifest = runs.start("segment", lambda to, listen: segment(config, to, listen=listen), shown)
        told = [f"{len(manifest['images'])} masks in `{folder}`"]
        told += [f"skipped: {row['error']}" for row in manifest["failed"]]
        flagged = [row for row in manifest["images"] if row["flag"]]
        told += [f"look at `{row['mask']}`: {row['flag']}" for row in flagged]
        if not manifest["images"]:
            return [None, None, "\n\n".join(told), offered(runs, folder)]
        with open(folder / TABLE_NAME, encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        table = gr.Dataframe(rows, headers=header)
        return [str(folder / SHEET_NAME), table, "\n\n".join(told), offered(runs, folder)]

    files = gr.File(label="Radiographs: PNG, JPEG or DICOM", file_count="multiple", file_types=PICTURES)
    hint = "lung-field-segmenter leaves out what the heart hides"
    model = gr.Dropdown(MODELS, value=MODELS[0], label="Model", info=hint)
    buttons = Buttons(runs, "Segment")
    sheet = gr.Image(label="Outlines", interactive=False)
    told = gr.Markdown()
    table = gr.Dataframe(label="Areas", interactive=False, wrap=True)
    buttons.start(run, [files, model], [sheet, table, told])
