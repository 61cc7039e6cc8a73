"""The tab Edit: a radiograph and a "what if" to before, after and difference."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from skiagraph.app.runs import PROGRESS, Buttons, Runs, offered
from skiagraph.app.segment import PICTURES
from skiagraph.data.images import read_radiograph
from skiagraph.engine.edit import EditConfig, edit
from skiagraph.engine.reading import verdict
from skiagraph.errors import SkiagraphError, one_line
from skiagraph.pipelines.counterfactual import EditSettings

LONGEST = 768
"""Pixels of the longest side of the picture that one draws on."""


def tab(runs: Runs) -> None:
    """Lay the tab out."""

    def run(
        file: str | None, drawn: dict[str, Any] | None, was: str, to: str, frames: float, strength: float, steps: float,
        seed: float, shown: gr.Progress = PROGRESS,
    ) -> list[Any]:  # fmt: skip
        if not file:
            raise gr.Error("choose a radiograph first", print_exception=False)
        config = EditConfig(
            file, to, was, progression=int(frames), roi=_region(file, drawn, runs.root), seed=int(seed),
            settings=EditSettings(**_strength(strength), steps=int(steps)),
        )  # fmt: skip
        folder, manifest = runs.start("edit", lambda into, listen: edit(config, into, listen=listen), shown)
        rows, before = manifest["frames"], str(folder / "before.png")
        film = [(before, "before"), *((str(folder / row["file"]), f"strength {row['strength']}") for row in rows)]
        difference = str(folder / f"difference-{len(rows)}.png")
        told = [*(verdict(said) for said in rows[-1]["read"]), f"Pictures in `{folder}`"]
        return [(before, film[-1][0]), difference, film, "\n\n".join(told), offered(runs, folder)]

    file = gr.File(label="Radiograph: PNG, JPEG or DICOM", file_types=PICTURES)
    drawn = gr.ImageEditor(
        label="Region: where the words say, or draw it", type="numpy", sources=(), transforms=(), layers=False,
        brush=gr.Brush(default_size=40, colors=["#ffb000"], color_mode="fixed"),
    )  # fmt: skip
    file.change(_preview, file, drawn, api_visibility="private")
    was = gr.Textbox("Normal chest. PA view of an adult.", label="What it shows")
    to = gr.Textbox("Left lower lobe consolidation.", label="What if it showed")
    with gr.Accordion("More", open=False):
        frames = gr.Slider(1, 8, 1, step=1, label="Pictures on the way, as a film")
        strength = gr.Slider(0, 1, 0, step=0.05, label="Strength; 0 takes the default of what is asked")
        steps = gr.Slider(2, 100, EditSettings.steps, step=1, label="Denoising steps", elem_id="edit-steps")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    buttons = Buttons(runs, "Edit")
    told = gr.Markdown()
    with gr.Row():
        slider = gr.ImageSlider(label="Before and after", type="filepath")
        difference = gr.Image(label="Difference: grey is no change", interactive=False)
    film = gr.Gallery(label="Film", columns=4, height="auto", object_fit="contain")
    inputs = [file, drawn, was, to, frames, strength, steps, seed]
    buttons.start(run, inputs, [slider, difference, film, told])


def _strength(chosen: float) -> dict[str, float]:
    """Settings of a strength; none of 0."""
    return {"strength": chosen, "clearing": chosen} if chosen else {}


def _preview(file: str | None) -> dict[str, Any] | None:
    """What one draws on; an error message for a file that is no radiograph."""
    if not file:
        return None
    try:
        pixels = read_radiograph(file).pixels
    except SkiagraphError as error:
        raise gr.Error(one_line(error), print_exception=False) from error
    picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
    picture.thumbnail((LONGEST, LONGEST))
    return {"background": np.asarray(picture.convert("RGB")), "layers": [], "composite": None}


def _region(file: str, drawn: dict[str, Any] | None, root: Path) -> str | None:
    """A mask file of what was drawn, of the radiograph's size; None where nothing was."""
    layers = [layer for layer in (drawn or {}).get("layers", ()) if layer is not None and layer[..., -1].any()]
    if not layers:
        return None
    marked = np.any([layer[..., -1] > 0 for layer in layers], axis=0)
    height, width = read_radiograph(file).pixels.shape
    mask = Image.fromarray(np.uint8(marked) * 255).resize((width, height), Image.Resampling.NEAREST)
    path = root / f"region-{time.time_ns()}.png"
    mask.save(path)
    return str(path)
