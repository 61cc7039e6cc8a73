"""The generation job: reports in, labelled PNGs, a contact sheet and a manifest out; resumable."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from skiagraph.data.captions import left_out
from skiagraph.data.images import SYNTHETIC_TEXT, read_radiograph, write_png
from skiagraph.data.reports import parse_report
from skiagraph.engine.contact_sheet import write_contact_sheet
from skiagraph.engine.manifest import open_manifest, save_manifest
from skiagraph.errors import ModelError, ReportError
from skiagraph.files import sha256, weight_hashes
from skiagraph.models.registry import DEFAULT_MODEL, model_folder
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.progress import progress

SHEET_NAME = "contact-sheet.png"
SHEET_LIMIT = 24


@dataclass(frozen=True)
class GenerateConfig:
    """What a generation run does. `count` images per report, with seeds `seed`, `seed` + 1, ... over the whole run."""

    reports: tuple[str, ...]
    model: str = DEFAULT_MODEL
    count: int = 1
    seed: int = 0
    steps: int = 30
    guidance: float = 2.0
    negative: str = ""
    scheduler: str | None = None
    dtype: str = "float32"
    batch_size: int = 8
    device: str = "cpu"


@dataclass(frozen=True)
class _Item:
    name: str
    report: str
    seed: int


def generate(config: GenerateConfig, output: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Generate what `config` asks for into `output`, skipping images an earlier run with the same configuration made.

    Returns:
        The manifest as written: configuration, versions, weight hashes and one row per image.

    Raises:
        ReportError: no reports, or one that is empty or names nothing known (before any image is made).
        ModelError: a model that does not load, or an unknown scheduler.
        SkiagraphError: `output` holds another run.
    """
    if not config.reports:
        raise ReportError("no reports given; use --report TEXT or --reports FILE.csv")
    folder = model_folder(config.model)
    manifest = open_manifest(output, "generate", _plain(config), weights=weight_hashes(folder), images=[])
    pipeline = TextToImagePipeline.load(config.model, dtype=getattr(torch, config.dtype), device=config.device)
    pipeline.set_progress_bar_config(disable=True)
    if config.scheduler:
        pipeline.scheduler = make_scheduler(config.scheduler, pipeline.scheduler.config)
    prompts = dict(zip(config.reports, pipeline.in_model_words(config.reports), strict=True))
    read = pipeline.config.prompt_style == "findings"
    dropped = {r: list(left_out(parse_report(r))) if read else [] for r in config.reports}
    if config.negative.strip():
        pipeline.in_model_words(config.negative)

    intact = [row for row in manifest["images"] if is_intact(output, row)]
    done = {row["file"] for row in intact}
    todo = [item for item in _items(config) if item.name not in done]
    manifest["images"] = intact
    save_manifest(output, manifest)
    with progress("generating", len(done) + len(todo), done=len(done), quiet=quiet) as update:
        for batch in batches(todo, config.batch_size):
            result = pipeline(
                [item.report for item in batch],
                negative_prompt=config.negative,
                num_inference_steps=config.steps,
                guidance_scale=config.guidance,
                seeds=[item.seed for item in batch],
            )
            for item, image, cut in zip(batch, result.images, result.truncated, strict=True):
                path = output / item.name
                row = {
                    "file": item.name,
                    "report": item.report,
                    "prompt": prompts[item.report],
                    "seed": item.seed,
                }
                write_png(path, image, text={**SYNTHETIC_TEXT, "Prompt": row["prompt"], "Seed": str(item.seed)})
                row |= {"prompt_truncated": cut, "left_out": dropped[item.report], "sha256": sha256(path)}
                manifest["images"].append(row)
            save_manifest(output, manifest)
            update(len(manifest["images"]))
    manifest["images"].sort(key=lambda row: row["file"])
    save_manifest(output, manifest)
    _write_sheet(output, manifest["images"][:SHEET_LIMIT])
    return manifest


def read_reports(path: Path) -> tuple[str, ...]:
    """Reports of a CSV file with a column `report`, or of a text file with one report a line.

    Raises:
        ReportError: the file is missing, not text, lacks the column, or has an empty report (its line is named).
    """
    if path.suffix.lower() == ".csv":
        return tuple(row["report"].strip() for row in read_table(path, "report"))
    reports = tuple(line.strip() for line in _text(path).splitlines() if line.strip())
    if not reports:
        raise ReportError(f"{path} holds no report")
    return reports


def read_table(path: Path, column: str) -> list[dict[str, str]]:
    """Rows of a CSV file of reports or prompts, where `column` is filled in; a quoted text may run over several lines.

    Raises:
        ReportError: the file is missing, not text, lacks the column, or has it empty somewhere (the line is named).
    """
    rows = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    found, first_line = [], 2
    try:
        for row in rows:
            if column not in row:
                raise ReportError(f"{path} has no column {column!r}; its columns are {', '.join(filter(None, row))}")
            if not (row[column] or "").strip():
                raise ReportError(f"{path}: empty {column} in line {first_line}; fill in or remove it")
            found.append(row)
            first_line = rows.line_num + 1
    except csv.Error as error:
        raise ReportError(f"{path}, from line {first_line}: not valid CSV ({error}); close its quotes") from error
    if not found:
        raise ReportError(f"{path} holds no {column}")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from error


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of `items`, of `size` each but for the last."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def make_scheduler(name: str, config: Any) -> Any:
    """A diffusers scheduler by class name, with or without "Scheduler", on the model's noise schedule."""
    cls = getattr(diffusers, name, None) or getattr(diffusers, f"{name}Scheduler", None)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin)):
        raise ModelError(
            f"diffusers has no scheduler {name!r}; try DDIM, DPMSolverMultistep, EulerDiscrete or UniPCMultistep"
        )
    return cls.from_config(config)


def _plain(config: GenerateConfig) -> dict[str, Any]:
    """The configuration as JSON, without what does not change the images."""
    plain = asdict(config) | {"reports": list(config.reports)}
    return {k: v for k, v in plain.items() if k not in ("batch_size", "device")}


def _items(config: GenerateConfig) -> Iterator[_Item]:
    for index, report in enumerate(config.reports):
        for repeat in range(config.count):
            number = index * config.count + repeat
            yield _Item(f"{number:05d}.png", report, config.seed + number)


def is_intact(output: Path, row: dict[str, Any], key: str = "file") -> bool:
    """Whether the file that a manifest's row names under `key` is there as it was written."""
    path = output / row[key]
    return path.is_file() and sha256(path) == row["sha256"]


def _write_sheet(output: Path, rows: list[dict[str, Any]]) -> None:
    images = [read_radiograph(output / row["file"]).pixels for row in rows]
    write_contact_sheet(output / SHEET_NAME, images, [row["report"] for row in rows])
