"""The segmentation job: pictures in, masks at their own size and a manifest out; resumable after any stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skiagraph.data.images import read_planes, square, unsquare, write_png
from skiagraph.data.masks import write_mask
from skiagraph.devices import AUTO, usable_device
from skiagraph.engine.dicom_seg import check_highdicom, write_dicom_seg
from skiagraph.engine.job import Done, open_run, plain
from skiagraph.errors import ImageError, ModelError
from skiagraph.files import sha256, weight_hashes
from skiagraph.models.latent_segmenter import LatentSegmenter, vote_entropy
from skiagraph.models.registry import DEFAULT_SEGMENTER, load_component, model_folder
from skiagraph.models.segmenter import Segmenter
from skiagraph.progress import Listener, progress

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
    device: str = AUTO


@dataclass(frozen=True)
class _Item:
    source: Path
    name: str


@dataclass(frozen=True)
class _Answer:
    """What the model says of one picture, at the picture's size."""

    labels: np.ndarray
    uncertainty: np.ndarray | None


def segment(
    config: SegmentConfig, output: Path, *, overwrite: bool = False, extend: bool = False, listen: Listener = progress
) -> dict[str, Any]:
    """Segment what `config` names into `output/masks`, skipping what an earlier run with the same configuration did.

    Pictures that cannot be read are skipped, listed in the manifest's `failed`, and tried again by the next run.

    Args:
        config: what to segment, and how.
        output: folder of the masks and `manifest.json`.
        overwrite: remove what another run left in `output`.
        extend: go on from a run with other inputs; its masks stay, and are listed while its pictures are inputs.
        listen: hears of progress.

    Returns:
        The manifest as written.

    Raises:
        ImageError: an input that does not exist, no pictures, or two that would have masks of one name.
        ModelError: a model that does not load, is no segmenter, or has no noise to draw.
        SkiagraphError: `output` holds another run, or highdicom is needed and absent.
    """
    if config.form == "dicom-seg":
        check_highdicom()
    items = {str(item.source): item for item in list_inputs(config.inputs, output)}
    worker = _Worker(config, output)
    stored = plain(config, "batch_size", "device") | {"inputs": [str(Path(path).resolve()) for path in config.inputs]}
    with open_run(
        output, "segment", stored, weights=weight_hashes(model_folder(config.model)), images=[], failed=[],
        overwrite=overwrite, extend=("inputs",) if extend else (), listen=listen,
    ) as run:  # fmt: skip
        outcome = run.each("segmenting", items, worker, batch_size=config.batch_size)
        rows = sorted((kept.with_hash() for kept in outcome.kept.values()), key=lambda row: row["mask"])
        failed = [{"source": source, "error": error} for source, error in outcome.failed.items()]
        return run.finish(images=rows, failed=failed)


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


class _Worker:
    """Segments some pictures and writes their masks."""

    def __init__(self, config: SegmentConfig, output: Path) -> None:
        self.config, self.output, self.model = config, output, _load(config)

    def __call__(self, items: Sequence[_Item]) -> Iterator[Done]:
        read = [_read(item.source, self.model.config.in_channels) for item in items]
        known = [planes for planes in read if not isinstance(planes, str)]
        answers = iter(self._answers(known))
        for item, planes in zip(items, read, strict=True):
            yield Done(None, error=planes) if isinstance(planes, str) else self._written(item, next(answers))

    def _answers(self, pictures: Sequence[np.ndarray]) -> list[_Answer]:
        """The model's answer to each picture (channels, H, W), at its size."""
        if not pictures:
            return []
        side = self.model.config.working_size
        squares = np.stack([np.stack([square(plane, side) for plane in planes]) for planes in pictures])
        images = torch.from_numpy(squares * 2 - 1).to(self.model.device, self.model.dtype)
        scores, doubt = _scores(self.model, images, self.config)
        answers = []
        for number, (planes, score) in enumerate(zip(pictures, scores.cpu().numpy(), strict=True)):
            shape = planes.shape[1:]
            labels = np.stack([unsquare(plane, shape) for plane in score]).argmax(axis=0).astype(np.uint8)
            unsure = None if doubt is None else unsquare(doubt[number].cpu().numpy(), shape).clip(0, 1)
            answers.append(_Answer(labels, unsure))
        return answers

    def _written(self, item: _Item, answer: _Answer) -> Done:
        try:
            return _write(item, answer, self.model, self.config, self.output)
        except ImageError as error:
            return Done(None, error=str(error))


def _read(source: Path, channels: int) -> np.ndarray | str:
    """Planes (channels, H, W) in [0, 1], or why they cannot be read."""
    try:
        return read_planes(source, channels)
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


def _scores(model: Segmenter | LatentSegmenter, images: Tensor, config: SegmentConfig) -> tuple[Tensor, Tensor | None]:
    """Scores (batch, classes, H, W) and, from several draws of noise, how much these disagree, (batch, H, W)."""
    if isinstance(model, Segmenter):
        return model.scores(images), None
    draws = model.draws(images, max(1, config.uncertainty), steps=config.steps, seed=config.seed)
    return draws.mean(dim=0), vote_entropy(draws) if config.uncertainty else None


def _write(
    item: _Item, answer: _Answer, model: Segmenter | LatentSegmenter, config: SegmentConfig, output: Path
) -> Done:
    """Write one picture's mask."""
    classes = list(model.config.classes)[1:]
    mask = Path("masks") / f"{item.name}{'.png' if config.form == 'png' else '.dcm'}"
    row: dict[str, Any] = {"source": str(item.source), "source_sha256": sha256(item.source), "mask": str(mask)}
    row["area"] = {name: round(float((answer.labels == k).mean()), 6) for k, name in enumerate(classes, start=1)}
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
