"""What metrics need of a set of pictures, computed once: features, spectra, a judge's scores and mask measures.

Pictures pass through memory a few at a time; what is kept of each is small. Every part is a file named by its contents,
so that the next run finds it, whatever else has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from skiagraph.data.datasets import Record
from skiagraph.data.images import read_radiograph, square
from skiagraph.engine.job import Done, Run, batches
from skiagraph.errors import EvaluationError, ImageError
from skiagraph.evaluation.copies import ALTERATIONS
from skiagraph.evaluation.extractors import Extractor
from skiagraph.evaluation.judges import Judge
from skiagraph.evaluation.mask_shapes import mask_measures
from skiagraph.evaluation.overlap import dice, hd95, iou, overlaps, surface_distance
from skiagraph.evaluation.spectrum import log_spectra
from skiagraph.files import atomic_path, sha256
from skiagraph.models.latent_segmenter import LatentSegmenter
from skiagraph.models.segmenter import Segmenter

SIDE = 256
PART = 64
"""Pictures in memory at a time."""

OVERLAPS = {"Dice": dice, "IoU": iou, "HD95": hd95, "surface distance": surface_distance}
"""What a picture's mask is compared by with the one that the segmenter finds."""


@dataclass(frozen=True)
class PictureSet:
    """Some pictures and what was computed of them; a row for each that could be read, in order."""

    records: list[Record]
    arrays: dict[str, np.ndarray]
    failed: dict[str, str]

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def patients(self) -> np.ndarray:
        """Patient of each row, unique over data sets."""
        return np.array([f"{r.dataset}/{r.patient}" for r in self.records])

    def features(self, extractor: str) -> np.ndarray:
        """Features (n, d) by the name of their extractor."""
        return self.arrays[f"features {extractor}"]

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """The judge's probabilities (n,) by finding."""
        return {k.removeprefix("score "): v for k, v in self.arrays.items() if k.startswith("score ")}

    def rows(self, index: np.ndarray) -> PictureSet:
        """The rows of an index or a mask."""
        chosen = np.arange(len(self))[index]
        return PictureSet([self.records[i] for i in chosen], {k: v[chosen] for k, v in self.arrays.items()}, {})


@dataclass(frozen=True)
class Measures:
    """What is computed of each picture, by networks whose names stand in the files' names."""

    extractors: Sequence[Extractor]
    judge: Judge | None = None
    segmenter: Segmenter | LatentSegmenter | None = None
    segmenter_name: str = ""

    @property
    def key(self) -> str:
        """Names of all, for the files' names."""
        judge = self.judge.name if self.judge is not None else ""
        return f"{[e.name for e in self.extractors]} {judge} {self.segmenter_name if self.segmenter else ''}"

    def __call__(self, images: np.ndarray, records: Sequence[Record]) -> dict[str, np.ndarray]:
        """Arrays with a row for each of images (n, SIDE, SIDE) and their records."""
        found = {f"features {e.name}": e.features(images).astype(np.float32) for e in self.extractors}
        found["spectrum"] = log_spectra(images)
        if self.judge is not None:
            found |= {f"score {name}": values.astype(np.float32) for name, values in self.judge(images).items()}
        if self.segmenter is not None:
            found |= {f"mask {name}": values for name, values in self._of_masks(images, records).items()}
        return found

    def _of_masks(self, images: np.ndarray, records: Sequence[Record]) -> dict[str, np.ndarray]:
        """Measures of the pictures' masks, and their overlap with what the segmenter finds; NaN where there is none."""
        drawn = np.stack([_mask(record) for record in records])
        side = self.segmenter.config.working_size
        small = np.stack([square(image, side) for image in images])
        labels = self.segmenter.segment(torch.from_numpy(small)[:, None] * 2 - 1).cpu().numpy()
        predicted = np.stack([square((m > 0).astype(np.float32), SIDE) >= 0.5 for m in labels])
        found = mask_measures(drawn)
        known = drawn.any(axis=(1, 2))
        for name, metric in OVERLAPS.items():
            values = np.full(len(drawn), np.nan, np.float32)
            if known.any():
                values[known] = metric(predicted[known], drawn[known]).details["values"]
            found[name] = values
        found["both"], found["either"] = (np.where(known, n, 0) for n in overlaps(predicted, drawn))
        return found


def measured(run: Run, name: str, records: Sequence[Record], measures: Measures) -> PictureSet:
    """A set of pictures with its measures, computed where no earlier run of the folder did.

    Raises:
        EvaluationError: no picture could be read.
    """
    parts = {_key(part, measures): part for part in batches(list(records), PART)}
    worker = _Worker(run.output, measures)
    made = run.each(f"measuring {name}", {k: (k, part) for k, part in parts.items()}, worker).kept
    kept, arrays, failed = [], [], {}
    for key, part in parts.items():
        row = made[key].row
        failed |= row["failed"]
        kept += [r for r in part if str(r.path) not in row["failed"]]
        if row["file"]:
            with np.load(run.output / row["file"]) as stored:
                arrays.append({k: stored[k] for k in stored.files})
    if not kept:
        raise EvaluationError(f"no picture of {name} can be read: {next(iter(failed.values()))}")
    return PictureSet(kept, {k: np.concatenate([a[k] for a in arrays]) for k in arrays[0]}, failed)


def planted(
    records: Sequence[Record], extractors: Sequence[Extractor], seed: int
) -> Mapping[str, dict[str, np.ndarray]]:
    """Features of altered copies of these pictures: by alteration, then by extractor."""
    images, _ = read_squares(records)
    rng = np.random.default_rng(seed)
    altered = {name: np.asarray(alter(images, rng), np.float32) for name, alter in ALTERATIONS.items()}
    return {name: {e.name: e.features(x) for e in extractors} for name, x in altered.items()}


def read_squares(records: Sequence[Record]) -> tuple[np.ndarray, dict[str, str]]:
    """Pictures float32 (n, SIDE, SIDE), cut to their middle square, and why others cannot be read."""
    images, failed = [], {}
    for record in records:
        try:
            images.append(square(read_radiograph(record.path).pixels, SIDE, fit="crop"))
        except (ImageError, OSError) as error:
            failed[str(record.path)] = str(error)
    return np.stack(images) if images else np.empty((0, SIDE, SIDE), np.float32), failed


class _Worker:
    def __init__(self, output: Path, measures: Measures) -> None:
        self.output, self.measures = output, measures

    def __call__(self, items: Sequence[tuple[str, Sequence[Record]]]) -> Iterator[Done]:
        for key, part in items:
            images, failed = read_squares(part)
            if not len(images):
                yield Done({"file": None, "failed": failed})
                continue
            file = str(Path("features") / f"{key}.npz")
            with atomic_path(self.output / file) as temporary, open(temporary, "wb") as stream:
                np.savez(stream, **self.measures(images, [r for r in part if str(r.path) not in failed]))
            yield Done({"file": file, "failed": failed}, files=(file,))


def _mask(record: Record) -> np.ndarray:
    """Bool (SIDE, SIDE), where any class is; empty where there is no mask or it cannot be read."""
    if record.mask is None or not record.mask_trusted:
        return np.zeros((SIDE, SIDE), bool)
    try:
        with Image.open(record.mask) as picture:
            values = np.asarray(picture.convert("L")) > 0
    except (OSError, UnidentifiedImageError):
        return np.zeros((SIDE, SIDE), bool)
    return square(values.astype(np.float32), SIDE, fit="crop") >= 0.5


def _key(part: Sequence[Record], measures: Measures) -> str:
    digest = hashlib.sha256(measures.key.encode())
    for record in part:
        mask = sha256(record.mask) if record.mask is not None and record.mask.is_file() else ""
        digest.update(f"{record.path} {sha256(record.path)} {mask}\n".encode())
    return digest.hexdigest()[:20]
