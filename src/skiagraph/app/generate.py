"""The tab Generate: reports to radiographs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from skiagraph.app.runs import PROGRESS, Buttons, Runs, offered
from skiagraph.engine.generate import GenerateConfig, generate

EXAMPLE = "Large right pleural effusion. PA view of an adult."
MOST = 64


def tab(runs: Runs) -> None:
    """Lay the tab out."""

    def run(
        text: str, count: float, seed: float, steps: float, guidance: float, shown: gr.Progress = PROGRESS
    ) -> list[Any]:
        config = GenerateConfig(
            lines(text), count=int(count), seed=int(seed), steps=int(steps), guidance=guidance, batch_size=1
        )
        folder, manifest = runs.start("generate", lambda to, listen: generate(config, to, listen=listen), shown)
        pictures = [(str(folder / row["file"]), row["report"]) for row in manifest["images"]]
        dropped = {row["report"]: row["left_out"] for row in manifest["images"] if row["left_out"]}
        told = [f"{len(pictures)} synthetic radiographs in `{folder}`"]
        told += [f"Of \u201c{report}\u201d this was not drawn: {'; '.join(parts)}" for report, parts in dropped.items()]
        return [pictures, "\n\n".join(told), offered(runs, folder)]

    text = gr.Textbox(EXAMPLE, lines=3, label="Reports, one a line", elem_id="reports")
    with gr.Row():
        count = gr.Slider(1, MOST, 2, step=1, label="Pictures a report", elem_id="count")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    with gr.Accordion("More", open=False):
        steps = gr.Slider(1, 100, 30, step=1, label="Denoising steps", elem_id="steps")
        guidance = gr.Slider(1, 8, 2, step=0.5, label="Guidance")
    buttons = Buttons(runs, "Generate")
    pictures = gr.Gallery(label="Synthetic radiographs", columns=4, height="auto", object_fit="contain")
    told = gr.Markdown()
    buttons.start(run, [text, count, seed, steps, guidance], [pictures, told])


def lines(text: str) -> tuple[str, ...]:
    """The lines of a text that are not empty."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())
