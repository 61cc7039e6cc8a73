"""The augmentation job: training images with masks in, images painted inside their masks out, as a data set (SynDiff).

Paper: arXiv 2507.15361, section 2.1. The mask of the object stays and what is painted inside it keeps it valid.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from skiagraph.data.datasets import Record, load_records, masked, read_folder, write_folder
from skiagraph.data.images import SYNTHETIC_TEXT, read_picture, write_png
from skiagraph.engine.contact_sheet import write_contact_sheet
from skiagraph.engine.gate import Gate, GateConfig
from skiagraph.engine.generate import SHEET_NAME, is_intact, read_table
from skiagraph.engine.manifest import config_hash, open_manifest, save_manifest
from skiagraph.errors import DataError, ModelError, SkiagraphError
from skiagraph.files import atomic_path, sha256, weight_hashes
from skiagraph.models.registry import DEFAULT_MODEL, load_component, model_folder
from skiagraph.pipelines.inpaint import InpaintSettings, Painter, inpaint, load_painter
from skiagraph.progress import progress

JUDGE = "lung-segmenter"
"""Judge of grey images where none is named."""

TRIES = 3
"""Images tried for each one wanted, before a run gives up."""

REAL = 100
"""Real images that the gate's bound for seams is taken from."""

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
    device: str = "cpu"


def augment(config: AugmentConfig, output: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Paint inside the masks of training images, going on from where an earlier run with this configuration stopped.

    Writes `images/`, `masks/`, `metadata.csv` (kept images as a data set, all "train", with their source's patient), a
    contact sheet, and the manifest, whose rows say of every image its source, prompt, seed, the gate's numbers and, if
    dropped, why. As long as too few pass the gate, further images are tried, up to `TRIES` for each one wanted.

    Returns:
        The manifest as written.

    Raises:
        DataError: no such data set, or one without training images that have a mask.
        ReportError: no prompts, or one that names nothing the model knows.
        ModelError: a model that does not load or cannot paint.
        SkiagraphError: `output` holds another run.
    """
    records = masked_records(config.dataset)
    wanted = max(1, round(config.ratio * len(records)))
    weights = weight_hashes(model_folder(config.model))
    stored = {k: v for k, v in asdict(config).items() if k != "device"}
    stored |= {"prompts": [list(p) for p in config.prompts], "sources": config_hash({"of": [r.key for r in records]})}
    manifest = open_manifest(output, "augment", stored, weights=weights, wanted=wanted, images=[])
    done = {row["name"]: row for row in manifest["images"] if row["dropped"] or is_intact(output, row)}
    painter = load_painter(config.model, dtype=getattr(torch, config.dtype), device=config.device)
    gate = _gate(config, records)
    rows: list[dict[str, Any]] = []
    before = sum(row["dropped"] is None for row in done.values())
    with progress("painting", wanted, done=before, quiet=quiet) as update:
        for name, record, prompt, seed in _tries(config, records, wanted):
            row = done.get(name)
            if row is None:
                row = _painted(output, name, record, prompt, seed, config, painter, gate)
                manifest["images"] = [*rows, row, *(r for n, r in done.items() if n > name)]
                save_manifest(output, manifest)
            rows.append(row)
            kept = [r for r in rows if r["dropped"] is None]
            update(len(kept))
            if len(kept) == wanted:
                break
    manifest["images"] = rows
    _publish(output, kept, {r.key: r for r in records})
    save_manifest(output, manifest)
    return manifest


def masked_records(dataset: str) -> list[Record]:
    """Training records with a trusted mask, of a folder with `metadata.csv` or a known data set.

    Raises:
        DataError: no such data set, or no such record in it.
    """
    folder = Path(dataset).expanduser()
    found = read_folder(folder) if (folder / "metadata.csv").is_file() else load_records([dataset])
    records = [r for r in masked(found) if r.split == "train"]
    if not records:
        raise DataError(f"{dataset} has no training image with a mask; metadata.csv needs the columns split and mask")
    return records


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Prompts of a CSV file with the columns `prompt` and, if there is one, `negative`.

    Raises:
        ReportError: as `skiagraph.engine.generate.read_table`.
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


def _tries(config: AugmentConfig, records: Sequence[Record], wanted: int) -> Iterator[tuple[str, Record, Prompt, int]]:
    """(name, record, prompt, seed) of every image that may be tried: each record once before any comes again."""
    rng = random.Random(config.seed)
    order: list[Record] = []
    for number in range(TRIES * wanted):
        order = order or rng.sample(records, len(records))
        yield f"{number:05d}", order.pop(), rng.choice(config.prompts), config.seed + number


def _gate(config: AugmentConfig, records: Sequence[Record]) -> Gate:
    chosen = random.Random(config.seed).sample(records, min(REAL, len(records)))
    real = [(image, mask > 0) for image, mask in map(read_object, chosen)]
    judge = config.judge or (JUDGE if real[0][0].ndim == 2 else None)
    if judge is None:
        return Gate(config.gate, real, None)
    segmenter = load_component(judge)
    if not hasattr(segmenter, "segment"):
        raise ModelError(f"judge {judge} is a {type(segmenter).__name__}; give a segmenter's folder")
    return Gate(config.gate, real, segmenter.eval())


def _painted(
    output: Path, name: str, record: Record, prompt: Prompt, seed: int, config: AugmentConfig, painter: Painter,
    gate: Gate,
) -> dict[str, Any]:  # fmt: skip
    """One row; the image and its mask are written if the gate lets them pass."""
    image, mask = read_object(record)
    made = inpaint(
        painter, image, mask > 0, prompt.prompt, negative=prompt.negative, seed=seed, settings=config.settings
    )
    found = gate.measure(image, made, mask > 0)
    row = {
        "name": name, "file": f"images/{name}.png", "source": record.key, "patient": record.patient,
        **prompt._asdict(), "seed": seed, **found, "dropped": gate.fault(found), "sha256": None,
    }  # fmt: skip
    if row["dropped"] is None:
        text = {**SYNTHETIC_TEXT, "Prompt": prompt.prompt, "Negative": prompt.negative, "Seed": str(seed)}
        with atomic_path(output / "masks" / f"{name}.png") as temporary:
            Image.fromarray(mask).save(temporary, format="PNG")
        write_png(output / row["file"], made, text=text)
        row["sha256"] = sha256(output / row["file"])
    return row


def _publish(output: Path, kept: list[dict[str, Any]], records: dict[str, Record]) -> None:
    """The table of kept images as a data set, and a contact sheet."""
    if not kept:
        raise SkiagraphError(f"no image passed the gate; {output / 'manifest.json'} says why each was dropped")
    write_folder(
        output,
        (
            {"file": row["file"], "patient": row["patient"], "split": "train", "report": row["prompt"],
             "mask": f"masks/{row['name']}.png"}
            for row in kept
        ),
    )  # fmt: skip
    pictures, captions = [], []
    for row in kept[:SHOWN]:
        pictures += [read_picture(records[row["source"]].path), read_picture(output / row["file"])]
        captions += [f"real: {row['source']}", row["prompt"]]
    write_contact_sheet(output / SHEET_NAME, pictures, captions)
