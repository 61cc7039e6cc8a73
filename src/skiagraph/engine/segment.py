"""The segmentation job: pictures in, masks at their own size and a manifest out; resumable after any stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skiagraph.data.images import read_planes, square, unsquare, write_png
from skiagraph.data.masks import write_mask
from skiagraph.engine.dicom_seg import check_highdicom, write_dicom_seg
from skiagraph.engine.generate import batches, is_intact
from skiagraph.engine.journal import Journal
from skiagraph.engine.manifest import open_manifest, save_manifest
from skiagraph.errors import ImageError, ModelError
from skiagraph.files import sha256, weight_hashes
from skiagraph.models.latent_segmenter import LatentSegmenter, vote_entropy
from skiagraph.models.registry import DEFAULT_SEGMENTER, load_component, model_folder
from skiagraph.models.segmenter import Segmenter
from skiagraph.progress import progress

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".dcm", ".dicom", "")
"""Of the files of a folder that are tried; archives store DICOM without one, or as a UID."""


@dataclass(frozen=True)
class SegmentConfig:
    """What a segmentation run does with `inputs`, files or folders of them.

    `form` is "png" or "dicom-seg". `uncertainty` is the number of noise draws whose disagreement is written beside the
    mask, 0 for none; it and `steps` above 1 need a latent segmenter.
    """

    inputs: tuple[str, ...]
    model: str = DEFAULT_SEGMENTER
    form: str = "png"
    uncertainty: int = 0
    steps: int = 1
    seed: int = 0
    dtype: str = "float32"
    batch_size: int = 8
    device: str = "cpu"


@dataclass(frozen=True)
class _Item:
    source: Path
    name: str


@dataclass(frozen=True)
class _Answer:
    """What the model says of one picture, at the picture's size."""

    labels: np.ndarray
    uncertainty: np.ndarray | None


def segment(config: SegmentConfig, output: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Segment what `config` names into `output/masks`, skipping what an earlier run with the same configuration did.

    Every finished picture is a line of `journal.jsonl` at once; at the end all of them are the manifest's `images`.
    Pictures that cannot be read are skipped, listed in the manifest's `failed`, and tried again by the next run.

    Returns:
        The manifest as written.

    Raises:
        ImageError: an input that does not exist, no pictures, or two that would have masks of one name.
        ModelError: a model that does not load, is no segmenter, or has no noise to draw.
        SkiagraphError: `output` holds another run, or highdicom is needed and absent.
    """
    if config.form == "dicom-seg":
        check_highdicom()
    items = list_inputs(config.inputs, output)
    folder = model_folder(config.model)
    model = _load(config)
    stored = {k: v for k, v in asdict(config).items() if k not in ("batch_size", "device")}
    stored["inputs"] = [str(Path(path).resolve()) for path in config.inputs]
    manifest = open_manifest(output, "segment", stored, weights=weight_hashes(folder), images=[], failed=[])
    save_manifest(output, manifest)
    journal = Journal(output / "journal.jsonl")
    rows = {row["source"]: row for row in (*manifest["images"], *journal.rows) if _is_intact(output, row)}
    todo = [item for item in items if str(item.source) not in rows]
    failed: list[dict[str, str]] = []
    before = len(items) - len(todo)
    with progress("segmenting", len(items), done=before, quiet=quiet) as update:
        for part in batches(todo, config.batch_size):
            for item, answer in _answers(model, part, config, failed):
                try:
                    row = _write(item, answer, model, config, output)
                except ImageError as error:
                    failed.append({"source": str(item.source), "error": str(error)})
                    continue
                journal.append(row)
                rows[row["source"]] = row
            update(len(rows) + len(failed))
    manifest["images"] = sorted(rows.values(), key=lambda row: row["mask"])
    manifest["failed"] = failed
    save_manifest(output, manifest)
    journal.path.unlink(missing_ok=True)
    return manifest


def list_inputs(inputs: Sequence[str], output: Path) -> list[_Item]:
    """Every picture with the name of its mask, without suffix: its place below the folder that was given.

    Raises:
        ImageError: a path that does not exist, no pictures, or two of one name.
    """
    found: dict[Path, Path] = {}
    for text in inputs:
        path = Path(text).resolve()
        if path.is_file():
            found[path] = Path(path.name)
        elif path.is_dir():
            found |= {file: file.relative_to(path) for file in _pictures(path, output.resolve())}
        else:
            raise ImageError(f"input {text} does not exist; give pictures or folders of them")
    if not found:
        raise ImageError(f"no pictures ({', '.join(filter(None, SUFFIXES))}) in {', '.join(inputs) or 'no input'}")
    stems = Counter(map(_stem, found.values()))
    names = {file: str(place if stems[_stem(place)] > 1 else _stem(place)) for file, place in found.items()}
    for name, count in Counter(names.values()).items():
        if count > 1:
            raise ImageError(f"{count} inputs are named {name}; give the folder above them instead")
    return [_Item(source, name) for source, name in names.items()]


def _pictures(folder: Path, output: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        wanted = path.suffix.lower() in SUFFIXES or path.suffix[1:].isdigit()
        if wanted and path.name != "DICOMDIR" and not hidden and output not in path.parents and path.is_file():
            yield path


def _stem(place: Path) -> Path:
    return place.with_suffix("") if place.suffix.lower() in SUFFIXES else place


def _load(config: SegmentConfig) -> Segmenter | LatentSegmenter:
    model = load_component(config.model, getattr(torch, config.dtype)).to(config.device).eval()
    if not isinstance(model, Segmenter | LatentSegmenter):
        raise ModelError(f"{config.model} is a {type(model).__name__}, not a segmenter")
    if isinstance(model, Segmenter) and (config.uncertainty or config.steps > 1):
        raise ModelError(
            f"{config.model} answers in one step and without noise; steps and uncertainty need a latent segmenter"
        )
    return model


def _answers(
    model: Segmenter | LatentSegmenter, items: Sequence[_Item], config: SegmentConfig, failed: list[dict[str, str]]
) -> list[tuple[_Item, _Answer]]:
    """The model's answer to each picture that can be read; the others join `failed`."""
    read, squares, shapes = [], [], []
    for item in items:
        try:
            planes = read_planes(item.source, model.config.in_channels)
        except (ImageError, OSError) as error:
            failed.append({"source": str(item.source), "error": str(error)})
            continue
        read.append(item)
        shapes.append(planes.shape[1:])
        squares.append(np.stack([square(plane, model.config.working_size) for plane in planes]))
    if not read:
        return []
    images = torch.from_numpy(np.stack(squares) * 2 - 1).to(model.device, model.dtype)
    scores, doubt = _scores(model, images, config)
    answers = []
    for item, shape, row, score in zip(read, shapes, range(len(read)), scores.cpu().numpy(), strict=True):
        labels = np.stack([unsquare(plane, shape) for plane in score]).argmax(axis=0).astype(np.uint8)
        unsure = None if doubt is None else unsquare(doubt[row].cpu().numpy(), shape).clip(0, 1)
        answers.append((item, _Answer(labels, unsure)))
    return answers


def _scores(model: Segmenter | LatentSegmenter, images: Tensor, config: SegmentConfig) -> tuple[Tensor, Tensor | None]:
    """Scores (batch, classes, H, W) and, from several draws of noise, how much these disagree, (batch, H, W)."""
    if isinstance(model, Segmenter):
        return model.scores(images), None
    draws = model.draws(images, max(1, config.uncertainty), steps=config.steps, seed=config.seed)
    return draws.mean(dim=0), vote_entropy(draws) if config.uncertainty else None


def _write(
    item: _Item, answer: _Answer, model: Segmenter | LatentSegmenter, config: SegmentConfig, output: Path
) -> dict[str, Any]:
    """Write one picture's mask; its row of the manifest."""
    classes = list(model.config.classes)[1:]
    mask = Path("masks") / f"{item.name}{'.png' if config.form == 'png' else '.dcm'}"
    row: dict[str, Any] = {"source": str(item.source), "source_sha256": sha256(item.source), "mask": str(mask)}
    row["area"] = {name: round(float((answer.labels == k).mean()), 6) for k, name in enumerate(classes, start=1)}
    if answer.uncertainty is not None:
        row["uncertainty"] = str(Path("uncertainty") / f"{item.name}.png")
        row["mean_uncertainty"] = round(float(answer.uncertainty.mean()), 6)
        write_png(output / row["uncertainty"], answer.uncertainty)
    if config.form == "png":
        write_mask(output / mask, answer.labels, classes, text={"Model": config.model})
    else:
        write_dicom_seg(output / mask, item.source, answer.labels, classes, config.model)
    return {**row, "sha256": sha256(output / mask)}


def _is_intact(output: Path, row: dict[str, Any]) -> bool:
    beside = "uncertainty" not in row or (output / row["uncertainty"]).is_file()
    return beside and is_intact(output, row, "mask")
