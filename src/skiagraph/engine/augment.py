"""The augmentation job: training images with masks in, images painted inside their masks out, as a data set (SynDiff).

Paper: arXiv 2507.15361, section 2.1. The mask of the object stays and what is painted inside it keeps it valid.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from skiagraph.data.datasets import FOLDER_COLUMNS, Record, load_records, masked, read_folder, write_folder
from skiagraph.data.images import SYNTHETIC_TEXT, read_picture, square, write_png
from skiagraph.data.tables import read_table
from skiagraph.devices import AUTO
from skiagraph.domains.domain import Domain, model_domain
from skiagraph.engine.card import card_names, write_card
from skiagraph.engine.contact_sheet import SHEET_NAME, write_contact_sheet
from skiagraph.engine.executor import HERE, Executor
from skiagraph.engine.gate import Gate, GateConfig
from skiagraph.engine.job import Done, open_run, plain
from skiagraph.engine.manifest import config_hash
from skiagraph.engine.reading import Reader
from skiagraph.errors import DataError, ModelError, NothingKept
from skiagraph.files import atomic_path, weight_hashes
from skiagraph.models.registry import DEFAULT_MODEL, load_component, model_folder
from skiagraph.pipelines.inpaint import InpaintSettings, inpaint, load_painter
from skiagraph.pipelines.organs import shipped_organs
from skiagraph.progress import Listener, progress

TRIES = 3
"""Images tried for each one wanted, before a run gives up."""

REAL = 100
"""Real images that the gate's bound for seams is taken from."""

READ_AT = 256
"""Side in pixels at which painted radiographs are read."""

SHOWN = 12
"""Images on the contact sheet, each beside the one it was painted on."""


class Prompt(NamedTuple):
    """What to paint and what to lead away from."""

    prompt: str
    negative: str = ""


@dataclass(frozen=True)
class AugmentConfig:
    """What an augmentation does: `ratio` synthetic images for each training image with a mask.

    `dataset` is a folder with `metadata.csv` or a known data set's name; `judge` a segmenter's folder, by default the
    lung segmenter for grey images and none for colour.
    """

    dataset: str
    prompts: tuple[Prompt, ...]
    ratio: float = 0.2
    model: str = DEFAULT_MODEL
    judge: str | None = None
    seed: int = 0
    settings: InpaintSettings = field(default_factory=InpaintSettings)
    gate: GateConfig = field(default_factory=GateConfig)
    dtype: str = "float32"
    device: str = AUTO


def augment(
    config: AugmentConfig, output: Path, *, overwrite: bool = False, listen: Listener = progress,
    executor: Executor = HERE,
) -> dict[str, Any]:  # fmt: skip
    """Paint inside the masks of training images, going on from where an earlier run with this configuration stopped.

    Writes `images/`, `masks/`, `metadata.csv` (kept images as a data set, all "train", with their source's patient), a
    contact sheet, and the manifest, whose rows say of every image its source, prompt, seed, the gate's numbers and, if
    dropped, why. Radiographs are read again: one that does not show all that its prompt says stays and has no report.
    As long as too few pass the gate, further images are tried, up to `TRIES` for each one wanted.

    Args:
        config: what to paint.
        output: folder of the data set and `manifest.json`.
        overwrite: remove what another run left in `output`.
        listen: hears of progress.
        executor: who works on it.

    Returns:
        The manifest as written.

    Raises:
        DataError: no such data set, or one without training images that have a mask.
        ReportError: no prompts, or one that names nothing the model knows.
        ModelError: a model that does not load or cannot paint.
        NothingKept: no image passed the gate.
        SkiagraphError: `output` holds another run.
    """
    records = masked_records(config.dataset, model_domain(model_folder(config.model)).labels)
    wanted = max(1, round(config.ratio * len(records)))
    stored = plain(config, "device") | {"sources": config_hash({"of": [r.key for r in records]})}
    stored["prompts"] = [list(prompt) for prompt in config.prompts]
    with executor.start(partial(_Worker, config, output, records), config.device) as work, open_run(
        output, "augment", stored, weights=weight_hashes(model_folder(config.model)), wanted=wanted, images=[],
        overwrite=overwrite, listen=listen,
    ) as run:  # fmt: skip
        tries = {item.name: item for item in _tries(config, records, wanted)}
        tried = run.each("painting", tries, work, goal=wanted, counts=lambda row: row["dropped"] is None)
        run.claim("metadata.csv", SHEET_NAME, *card_names(output))
        rows = [kept.with_hash() for kept in tried.kept.values()]
        manifest = run.finish(images=rows)
        _publish(output, [row for row in rows if row["dropped"] is None], {r.key: r for r in records})
        write_card(output, manifest)
        return manifest


def masked_records(dataset: str, labels: Collection[str] | None = None) -> list[Record]:
    """Training records with a trusted mask and of some labels, of a folder with `metadata.csv` or a known data set.

    Raises:
        DataError: no such data set, or no such record in it.
    """
    folder = Path(dataset).expanduser()
    found = read_folder(folder, labels) if (folder / "metadata.csv").is_file() else load_records([dataset])
    records = [r for r in masked(found) if r.split == "train"]
    if not records:
        raise DataError(f"{dataset} has no training image with a mask; metadata.csv needs the columns split and mask")
    return records


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Prompts of a CSV file with the columns `prompt` and, if there is one, `negative`.

    Raises:
        DataError: as `skiagraph.data.tables.read_table`.
    """
    return tuple(
        Prompt(row["prompt"].strip(), (row.get("negative") or "").strip()) for row in read_table(path, "prompt")
    )


def read_object(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W) or (H, W, 3) in [0, 1] and mask uint8 (H, W) with its own values, at the picture's size.

    Raises:
        DataError: a mask that cannot be read, or is empty.
    """
    image = read_picture(record.path)
    try:
        with Image.open(record.mask) as picture:
            mask = np.asarray(picture.convert("L").resize(image.shape[1::-1], Image.Resampling.NEAREST))
    except OSError as error:
        raise DataError(f"mask {record.mask} cannot be read ({error})") from error
    if not mask.any():
        raise DataError(f"mask {record.mask} is empty; leave its image out of the data set")
    return image, mask


@dataclass(frozen=True)
class _Item:
    name: str
    record: Record
    prompt: Prompt
    seed: int


def _tries(config: AugmentConfig, records: Sequence[Record], wanted: int) -> Iterator[_Item]:
    """Every image that may be tried: each record once before any comes again."""
    rng = random.Random(config.seed)
    order: list[Record] = []
    for number in range(TRIES * wanted):
        order = order or rng.sample(records, len(records))
        yield _Item(f"{number:05d}", order.pop(), rng.choice(config.prompts), config.seed + number)


def _gate(config: AugmentConfig, records: Sequence[Record], domain: Domain) -> Gate:
    chosen = random.Random(config.seed).sample(records, min(REAL, len(records)))
    real = [(image, mask > 0) for image, mask in map(read_object, chosen)]
    judge = config.judge or (domain.segmenter if real[0][0].ndim == 2 else None)
    if judge is None:
        return Gate(config.gate, real, None)
    segmenter = load_component(judge)
    if not hasattr(segmenter, "segment"):
        raise ModelError(f"judge {judge} is a {type(segmenter).__name__}; give a segmenter's folder")
    return Gate(config.gate, real, segmenter.eval())


class _Worker:
    """Paints inside one image's mask, and writes what the gate lets pass."""

    def __init__(self, config: AugmentConfig, output: Path, records: Sequence[Record]) -> None:
        self.config, self.output = config, output
        self.painter = load_painter(config.model, dtype=getattr(torch, config.dtype), device=config.device)
        self.domain = model_domain(model_folder(config.model))
        self.gate = _gate(config, records, self.domain)
        self.reader = Reader(self.domain) if self.domain.edits and self.domain.judge else None

    def __call__(self, items: Sequence[_Item]) -> Iterator[Done]:
        for item in items:
            yield self._painted(item)

    def _painted(self, item: _Item) -> Done:
        image, mask = read_object(item.record)
        made = inpaint(
            self.painter, image, mask > 0, item.prompt.prompt, negative=item.prompt.negative, seed=item.seed,
            settings=self.config.settings,
        )  # fmt: skip
        found = self.gate.measure(image, made, mask > 0)
        file, mask_file = f"images/{item.name}.png", f"masks/{item.name}.png"
        row = {
            "name": item.name, "file": file, "source": item.record.key, "patient": item.record.patient,
            **item.prompt._asdict(), "seed": item.seed, **found, "dropped": self.gate.fault(found),
        }  # fmt: skip
        if row["dropped"] is not None:
            return Done(row)
        row["read"] = self._read(image, made, item.prompt.prompt) if self.reader and image.ndim == 2 else None
        row["report"] = item.prompt.prompt if row["read"] is None or all(r["done"] for r in row["read"]) else ""
        text = {**SYNTHETIC_TEXT, "Prompt": row["prompt"], "Negative": row["negative"], "Seed": str(item.seed)}
        with atomic_path(self.output / mask_file) as temporary:
            Image.fromarray(mask).save(temporary, format="PNG")
        write_png(self.output / file, made, text=text)
        return Done(row, files=(file, mask_file))

    def _read(self, before: np.ndarray, after: np.ndarray, prompt: str) -> list[dict[str, Any]]:
        """What of the prompt's findings a radiograph shows that it did not show before."""
        squares = [square(picture, READ_AT) for picture in (before, after)]
        try:
            regions = self.domain.edits.regions(shipped_organs(squares[0]))
        except DataError:
            regions = {}
        come = [finding for finding in self.domain.parse(prompt).findings if finding.present]
        return self.reader(*squares, come, [], regions)


def _publish(output: Path, kept: list[dict[str, Any]], records: dict[str, Record]) -> None:
    """The table of kept images as a data set, and a contact sheet."""
    if not kept:
        raise NothingKept(f"no image passed the gate; {output / 'manifest.json'} says why each was dropped")
    write_folder(
        output,
        (
            {"file": row["file"], "patient": row["patient"], "split": "train", "report": row["report"],
             "mask": f"masks/{row['name']}.png", "source": row["source"]}
            for row in kept
        ),
        (*FOLDER_COLUMNS, "source"),
    )  # fmt: skip
    pictures, captions = [], []
    for row in kept[:SHOWN]:
        pictures += [read_picture(records[row["source"]].path), read_picture(output / row["file"])]
        captions += [f"real: {row['source']}", row["prompt"]]
    write_contact_sheet(output / SHEET_NAME, pictures, captions)
