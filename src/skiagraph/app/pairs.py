"""The tab Pairs: prompts to radiographs with masks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from skiagraph.app.generate import lines
from skiagraph.app.runs import PROGRESS, Buttons, Runs, offered
from skiagraph.domains.domain import model_domain
from skiagraph.engine.pairs import PairsConfig, make_pairs
from skiagraph.models.registry import DEFAULT_MODEL, model_folder

EXAMPLES = "Normal chest. PA view of an adult.\nLeft lower lobe consolidation. AP view of a child."
MOST = 200


def tab(runs: Runs) -> None:
    """Lay the tab out."""

    def run(
        text: str, count: float, classes: list[str], keep: float, seed: float, shown: gr.Progress = PROGRESS
    ) -> list[Any]:
        config = PairsConfig(
            lines(text), int(count), tuple(classes), keep=keep, seed=int(seed), own_networks=False, batch_size=1
        )
        folder, manifest = runs.start("pairs", lambda to, listen: make_pairs(config, to, listen=listen), shown)
        rows = manifest["pairs"]
        kept = [row for row in rows if row["dropped"] is None]
        sides = ("images", "overlays")
        pictures = [(str(folder / side / f"{row['name']}.png"), row["prompt"]) for row in kept for side in sides]
        dropped = [f"`{row['name']}`: {row['dropped']}" for row in rows if row["dropped"]]
        told = [f"{len(kept)} of {len(rows)} pairs kept in `{folder}`", *dropped]
        return [pictures, "\n\n".join(told), offered(runs, folder)]

    text = gr.Textbox(EXAMPLES, lines=3, label="Prompts, one a line")
    with gr.Row():
        count = gr.Slider(1, MOST, 4, step=1, label="Pictures to draw", elem_id="pairs-count")
        keep = gr.Slider(0.1, 1, 1, step=0.1, label="Share that the filter keeps, from 12 on")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    domain = model_domain(model_folder(DEFAULT_MODEL))
    classes = gr.CheckboxGroup(list(domain.segmenter_values), value=list(domain.classes), label="Masks of")
    buttons = Buttons(runs, "Make pairs")
    pictures = gr.Gallery(label="Image, and its mask as an outline", columns=4, height="auto", object_fit="contain")
    told = gr.Markdown()
    buttons.start(run, [text, count, classes, keep, seed], [pictures, told])
