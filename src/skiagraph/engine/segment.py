"""The segmentation job: pictures in, masks at their own size and a manifest out; resumable after any stop."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skiagraph.data.dicom_seg import check_highdicom, write_dicom_seg
from skiagraph.data.images import planes_of, read_image, read_planes, require_frontal, square, unsquare, write_png
from skiagraph.data.inputs import Item, list_inputs
from skiagraph.data.masks import LUNG_SIDES, one_piece, read_mask, read_segments, write_mask
from skiagraph.devices import AUTO, usable_device
from skiagraph.engine.contact_sheet import SHEET_LIMIT, SHEET_NAME, write_contact_sheet
from skiagraph.engine.contact_sheet import SIDE as SHEET_SIDE
from skiagraph.engine.executor import HERE, Executor
from skiagraph.engine.job import Done, open_run, plain
from skiagraph.engine.overlay import overlaid
from skiagraph.errors import DataError, ImageError, ModelError
from skiagraph.files import atomic_path, sha256, weight_hashes
from skiagraph.models.latent_segmenter import LatentSegmenter, vote_entropy
from skiagraph.models.registry import DEFAULT_SEGMENTER, load_component, model_folder
from skiagraph.models.segmenter import Segmenter
from skiagraph.pipelines.mask_checks import scores_of_views
from skiagraph.pipelines.organs import check_lungs
from skiagraph.progress import Listener, progress

TABLE_NAME = "masks.csv"


@dataclass(frozen=True)
class SegmentConfig:
    """What a segmentation run does with `inputs`, files or folders of them.

    `form` is "png" or "dicom-seg". With `check` the model answers for several views of each picture: masks are their
    mean, and those that the views do not agree on, or that have no shape of lungs, are flagged. `uncertainty` is the
    number of noise draws whose disagreement is written beside the mask, 0 for none; it and `steps` above 1 need a
    latent segmenter.
    """

    inputs: tuple[str, ...]
    model: str = DEFAULT_SEGMENTER
    form: str = "png"
    check: bool = True
    uncertainty: int = 0
    steps: int = 1
    seed: int = 0
    dtype: str = "float32"
    batch_size: int = 8
    device: str = AUTO


@dataclass(frozen=True)
class _Picture:
    """Pixels (channels, H, W) in [0, 1], and millimetres between rows and columns."""

    planes: np.ndarray
    spacing: tuple[float, float] | None


@dataclass(frozen=True)
class _Answer:
    """What the model says of one picture, at the picture's size, and how far it agrees with itself."""

    labels: np.ndarray
    agreement: float | None
    uncertainty: np.ndarray | None


def segment(
    config: SegmentConfig, output: Path, *, overwrite: bool = False, extend: bool = False,
    listen: Listener = progress, executor: Executor = HERE,
) -> dict[str, Any]:  # fmt: skip
    """Segment what `config` names into `output/masks`, skipping what an earlier run with the same configuration did.

    Pictures that cannot be read, and lateral views, are skipped, listed in the manifest's `failed`, and tried again by
    the next run; `passed_over` has the files of folders that are no pictures. `masks.csv` has a line for each mask with
    the area of every class, as a share of the picture and, where the file states its pixels' spacing, in mm2, and with
    `agreement` (0 to 1) and `flag`, why the mask is not to be trusted; outlines of the first masks are on the contact
    sheet.

    Args:
        config: what to segment, and how.
        output: folder of the masks, `masks.csv`, the contact sheet and `manifest.json`.
        overwrite: remove what another run left in `output`.
        extend: go on from a run with other inputs; its masks stay, and are listed while its pictures are inputs.
        listen: hears of progress.
        executor: who works on it.

    Returns:
        The manifest as written.

    Raises:
        ImageError: an input that does not exist, no pictures, or two that would have masks of one name.
        ModelError: a model that does not load, is no segmenter, or has no noise to draw.
        SkiagraphError: `output` holds another run, or highdicom is needed and absent.
    """
    if config.form == "dicom-seg":
        check_highdicom()
    inputs = list_inputs(config.inputs, output)
    items = {str(item.source): item for item in inputs.items}
    stored = plain(config, "batch_size", "device") | {"inputs": [str(Path(path).resolve()) for path in config.inputs]}
    with executor.start(partial(_Worker, config, output), config.device) as work, open_run(
        output, "segment", stored, weights=weight_hashes(model_folder(config.model)), images=[], failed=[],
        overwrite=overwrite, extend=("inputs",) if extend else (), listen=listen,
    ) as run:  # fmt: skip
        outcome = run.each("segmenting", items, work, batch_size=config.batch_size)
        rows = sorted((kept.with_hash() for kept in outcome.kept.values()), key=lambda row: row["mask"])
        failed = [{"source": source, "error": error} for source, error in outcome.failed.items()]
        if rows:
            _write_table(output / TABLE_NAME, rows)
            _write_sheet(output, rows[:SHEET_LIMIT], _channels(config.model))
        return run.finish(images=rows, failed=failed, passed_over=inputs.passed_over)


class _Worker:
    """Segments some pictures and writes their masks."""

    def __init__(self, config: SegmentConfig, output: Path) -> None:
        self.config, self.output, self.model = config, output, _load(config)

    def __call__(self, items: Sequence[Item]) -> Iterator[Done]:
        read = [_read(item.source, self.model.config.in_channels) for item in items]
        known = [picture.planes for picture in read if not isinstance(picture, str)]
        answers = iter(self._answers(known))
        for item, picture in zip(items, read, strict=True):
            if isinstance(picture, str):
                yield Done(None, error=picture)
            else:
                yield self._written(item, picture, next(answers))

    def _answers(self, pictures: Sequence[np.ndarray]) -> list[_Answer]:
        """The model's answer to each picture (channels, H, W), at its size."""
        if not pictures:
            return []
        side = self.model.config.working_size
        squares = np.stack([np.stack([square(plane, side) for plane in planes]) for planes in pictures])
        images = torch.from_numpy(squares * 2 - 1).to(self.model.device, self.model.dtype)
        scores, agreement, doubt = _scores(self.model, images, self.config)
        answers = []
        for number, (planes, score) in enumerate(zip(pictures, scores.cpu().numpy(), strict=True)):
            shape = planes.shape[1:]
            labels = np.stack([unsquare(plane, shape) for plane in score]).argmax(axis=0).astype(np.uint8)
            if self.model.config.get("one_piece"):
                labels = one_piece(labels)
            agreed = None if agreement is None else float(agreement[number])
            unsure = None if doubt is None else unsquare(doubt[number].cpu().numpy(), shape).clip(0, 1)
            answers.append(_Answer(labels, agreed, unsure))
        return answers

    def _written(self, item: Item, picture: _Picture, answer: _Answer) -> Done:
        try:
            return _write(item, picture, answer, self.model, self.config, self.output)
        except ImageError as error:
            return Done(None, error=str(error))


def _read(source: Path, channels: int) -> _Picture | str:
    """A picture, or why it cannot be read."""
    try:
        image = read_image(source)
        require_frontal(image.view, source)
        return _Picture(planes_of(image, channels), image.spacing)
    except (ImageError, OSError) as error:
        return str(error)


def _load(config: SegmentConfig) -> Segmenter | LatentSegmenter:
    model = load_component(config.model, getattr(torch, config.dtype)).to(usable_device(config.device)).eval()
    if not isinstance(model, Segmenter | LatentSegmenter):
        raise ModelError(f"{config.model} is a {type(model).__name__}, not a segmenter")
    if isinstance(model, Segmenter) and (config.uncertainty or config.steps > 1):
        raise ModelError(
            f"{config.model} answers in one step and without noise; steps and uncertainty need a latent segmenter"
        )
    return model


def _channels(model: str) -> int:
    return json.loads((model_folder(model) / "config.json").read_text(encoding="utf-8"))["in_channels"]


def _scores(
    model: Segmenter | LatentSegmenter, images: Tensor, config: SegmentConfig
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Scores (batch, classes, H, W), how far views agree (batch,), and how much draws of noise disagree (batch, H, W).

    The last two are None where they are not asked for.
    """
    how = {} if isinstance(model, Segmenter) else {"steps": config.steps, "seed": config.seed}
    scores, agreement = scores_of_views(model, images, **how) if config.check else (model.scores(images, **how), None)
    if not config.uncertainty:
        return scores, agreement, None
    draws = model.draws(images, config.uncertainty, steps=config.steps, seed=config.seed)
    return draws.mean(dim=0), agreement, vote_entropy(draws)


def _flag(answer: _Answer, model: Segmenter | LatentSegmenter) -> str:
    """Why a mask is to be looked at before it is used; empty where nothing speaks against it."""
    least = model.config.get("least_agreement", 0.0)
    if not answer.labels.any():
        return "nothing found"
    if answer.agreement < least:
        return f"views of the picture agree to {answer.agreement:.3f} only, below {least:.3f}"
    if tuple(model.config.classes[1:]) == LUNG_SIDES:
        try:
            check_lungs(answer.labels == 1, answer.labels == 2)
        except DataError as error:
            return str(error)
    return ""


def _write(
    item: Item,
    picture: _Picture,
    answer: _Answer,
    model: Segmenter | LatentSegmenter,
    config: SegmentConfig,
    output: Path,
) -> Done:
    """Write one picture's mask."""
    classes = list(model.config.classes)[1:]
    mask = Path("masks") / f"{item.name}{'.png' if config.form == 'png' else '.dcm'}"
    row: dict[str, Any] = {"source": str(item.source), "source_sha256": sha256(item.source), "mask": str(mask)}
    pixels = {name: int((answer.labels == k).sum()) for k, name in enumerate(classes, start=1)}
    row["size"] = list(answer.labels.shape)
    row["area"] = {name: round(count / answer.labels.size, 6) for name, count in pixels.items()}
    if picture.spacing is not None:
        row["area_mm2"] = {name: round(count * np.prod(picture.spacing), 2) for name, count in pixels.items()}
    if answer.agreement is not None:
        row |= {"agreement": round(answer.agreement, 4), "flag": _flag(answer, model)}
    files = [str(mask)]
    if answer.uncertainty is not None:
        row["uncertainty"] = str(Path("uncertainty") / f"{item.name}.png")
        row["mean_uncertainty"] = round(float(answer.uncertainty.mean()), 6)
        write_png(output / row["uncertainty"], answer.uncertainty)
        files.append(row["uncertainty"])
    if config.form == "png":
        write_mask(output / mask, answer.labels, classes, text={"Model": config.model})
    else:
        write_dicom_seg(output / mask, item.source, answer.labels, classes, config.model)
    return Done(row, files=tuple(files))


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A line for each mask, with columns for the area of every class."""
    classes = list(rows[0]["area"])
    areas = [(kind, name) for kind in ("area", "area_mm2") for name in classes]
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        checks = [name for name in ("agreement", "flag") if name in rows[0]]
        named = [f"{kind} {name}" for kind, name in areas]
        writer.writerow(["source", "mask", "height", "width", *named, *checks])
        for row in rows:
            values = [row.get(kind, {}).get(name, "") for kind, name in areas]
            writer.writerow([row["source"], row["mask"], *row["size"], *values, *(row[name] for name in checks)])


def _write_sheet(output: Path, rows: Sequence[dict[str, Any]], channels: int) -> None:
    """Masks on their pictures, at a glance."""
    tiles = []
    for row in rows:
        planes = [square(plane, SHEET_SIDE) for plane in read_planes(row["source"], channels)]
        picture = np.stack(planes, axis=-1).repeat(3 // channels, axis=-1)
        tiles.append(overlaid(picture * 255, _labels(output / row["mask"], list(row["area"]))) / np.float32(255))
    names = [f"{Path(row['source']).name}{' (flagged)' if row.get('flag') else ''}" for row in rows]
    write_contact_sheet(output / SHEET_NAME, tiles, names, synthetic=False)


def _labels(mask: Path, classes: Sequence[str]) -> np.ndarray:
    """A mask that was written, as a label map of the sheet's size."""
    if mask.suffix == ".png":
        return read_mask(mask, SHEET_SIDE, fit="pad", classes=classes)
    segments = read_segments(mask)
    planes = [square(segments[name.lower()].astype(np.float32), SHEET_SIDE) >= 0.5 for name in classes]
    return sum(number * plane for number, plane in enumerate(planes, start=1))
