"""The generation job: reports in, labelled PNGs, a contact sheet and a manifest out; resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skiagraph.data.images import SYNTHETIC_TEXT, read_radiograph, write_png
from skiagraph.devices import AUTO
from skiagraph.engine.card import card_names, write_card
from skiagraph.engine.contact_sheet import SHEET_LIMIT, SHEET_NAME, write_contact_sheet
from skiagraph.engine.executor import HERE, Executor
from skiagraph.engine.fit import Fit
from skiagraph.engine.job import Done, open_run, plain
from skiagraph.errors import ReportError
from skiagraph.files import weight_hashes
from skiagraph.models.registry import DEFAULT_MODEL, model_folder
from skiagraph.pipelines.published import load_pipeline
from skiagraph.pipelines.schedulers import make_scheduler
from skiagraph.progress import Listener, progress


@dataclass(frozen=True)
class GenerateConfig:
    """What a generation run does. `count` images per report, with seeds `seed`, `seed` + 1, ... over the whole run.

    With `best_of` above 1 each image is the one of so many draws, each of its own seed, that fits its report best by
    the domain's classifier of findings.
    """

    reports: tuple[str, ...]
    model: str = DEFAULT_MODEL
    count: int = 1
    best_of: int = 1
    seed: int = 0
    steps: int = 30
    guidance: float = 2.0
    negative: str = ""
    scheduler: str | None = None
    enlarge: bool = False
    dtype: str = "float32"
    batch_size: int = 8
    device: str = AUTO


@dataclass(frozen=True)
class _Item:
    file: str
    report: str
    seeds: range


@dataclass(frozen=True)
class _Draw:
    seed: int
    image: np.ndarray
    truncated: bool
    fit: float | None = None


def generate(
    config: GenerateConfig, output: Path, *, overwrite: bool = False, extend: bool = False,
    listen: Listener = progress, executor: Executor = HERE,
) -> dict[str, Any]:  # fmt: skip
    """Generate what `config` asks for into `output`, skipping images an earlier run with the same configuration made.

    Args:
        config: what to make.
        output: folder of the images, `contact-sheet.png` and `manifest.json`.
        overwrite: remove what another run left in `output`.
        extend: go on from a run with other reports; those that come first in both are not made again.
        listen: hears of progress.
        executor: who works on it.

    Returns:
        The manifest as written: configuration, versions, weight hashes and one row per image.

    Raises:
        ReportError: no reports, or one that is empty or names nothing known (before any image is made).
        ModelError: a model that does not load or cannot enlarge, or an unknown scheduler.
        SkiagraphError: `output` holds another run.
    """
    if not config.reports:
        raise ReportError("no reports given; use --report TEXT or --reports FILE.csv")
    weights = weight_hashes(model_folder(config.model))
    with executor.start(partial(_Worker, config, output), config.device) as work, open_run(
        output, "generate", plain(config, "batch_size", "device"), weights=weights, images=[], overwrite=overwrite,
        extend=("reports",) if extend else (), listen=listen,
    ) as run:  # fmt: skip
        made = run.each("generating", _items(config), work, batch_size=config.batch_size).kept
        run.claim(SHEET_NAME, *card_names(output))
        rows = [kept.with_hash() for kept in made.values()]
        _write_sheet(output, rows[:SHEET_LIMIT])
        manifest = run.finish(images=rows)
        write_card(output, manifest)
        return manifest


class _Worker:
    """Draws and writes images of some items."""

    def __init__(self, config: GenerateConfig, output: Path) -> None:
        self.config, self.output = config, output
        self.pipeline = load_pipeline(config.model, dtype=getattr(torch, config.dtype), device=config.device)
        self.pipeline.set_progress_bar_config(disable=True)
        if config.enlarge:
            self.pipeline.check_enlarges()
        self.fit = Fit(self.pipeline.domain, config.reports) if config.best_of > 1 else None
        if config.scheduler:
            self.pipeline.scheduler = make_scheduler(config.scheduler, self.pipeline.scheduler.config)
        self.prompts = dict(zip(config.reports, self.pipeline.in_model_words(config.reports), strict=True))
        read = self.pipeline.config.prompt_style == "findings"
        self.dropped = {r: list(self.pipeline.domain.left_out(r)) if read else [] for r in config.reports}
        if config.negative.strip():
            self.pipeline.in_model_words(config.negative)

    def __call__(self, items: Sequence[_Item]) -> Iterator[Done]:
        rounds = [self._drawn(items, number) for number in range(self.config.best_of)]
        for item, *draws in zip(items, *rounds, strict=True):
            yield self._written(item, max(draws, key=lambda draw: draw.fit or 0.0))

    def _drawn(self, items: Sequence[_Item], number: int) -> list[_Draw]:
        reports, seeds = [item.report for item in items], [item.seeds[number] for item in items]
        result = self.pipeline(
            reports, negative_prompt=self.config.negative, num_inference_steps=self.config.steps,
            guidance_scale=self.config.guidance, seeds=seeds, enlarge=self.config.enlarge,
        )  # fmt: skip
        fits = [None] * len(items) if self.fit is None else map(float, self.fit(reports, result.images))
        return [_Draw(*draw) for draw in zip(seeds, result.images, result.truncated, fits, strict=True)]

    def _written(self, item: _Item, draw: _Draw) -> Done:
        prompt = self.prompts[item.report]
        text = {**SYNTHETIC_TEXT, "Prompt": prompt, "Seed": str(draw.seed)}
        write_png(self.output / item.file, draw.image, text=text)
        row = {
            "file": item.file, "report": item.report, "prompt": prompt, "seed": draw.seed,
            "prompt_truncated": draw.truncated, "left_out": self.dropped[item.report],
        }  # fmt: skip
        if draw.fit is not None:
            row["fit"] = round(draw.fit, 4)
        return Done(row, files=(item.file,))


def _items(config: GenerateConfig) -> dict[str, _Item]:
    wanted = [report for report in config.reports for _ in range(config.count)]
    firsts = range(config.seed, config.seed + len(wanted) * config.best_of, config.best_of)
    items = (
        _Item(f"{n:05d}.png", report, range(first, first + config.best_of))
        for n, (report, first) in enumerate(zip(wanted, firsts, strict=True))
    )
    return {f"{item.file} {item.report}": item for item in items}


def _write_sheet(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    images = [read_radiograph(output / row["file"]).pixels for row in rows]
    write_contact_sheet(output / SHEET_NAME, images, [row["report"] for row in rows])
