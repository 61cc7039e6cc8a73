"""The editing job: real radiographs and a "what if" in, edited pictures, differences and a manifest out; resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydicom.uid import generate_uid

from skiagraph.data.dicom import is_dicom
from skiagraph.data.dicom_image import write_derived_dicom
from skiagraph.data.images import (
    SYNTHETIC_TEXT,
    Radiograph,
    read_radiograph,
    require_frontal,
    square,
    unsquare,
    write_png,
)
from skiagraph.data.inputs import list_inputs
from skiagraph.data.masks import Regions, read_region
from skiagraph.data.reports import Wish
from skiagraph.data.tables import read_table
from skiagraph.devices import AUTO
from skiagraph.domains.domain import Domain, model_domain
from skiagraph.engine.contact_sheet import SHEET_NAME, write_contact_sheet
from skiagraph.engine.executor import HERE, Executor
from skiagraph.engine.job import Done, open_run, plain
from skiagraph.engine.reading import Reader
from skiagraph.errors import DataError, ImageError, MaskError, ModelError, ReportError
from skiagraph.files import sha256, weight_hashes
from skiagraph.models.registry import DEFAULT_MODEL, model_folder, not_drawn
from skiagraph.pipelines.counterfactual import Edit, EditSettings, edit_image
from skiagraph.pipelines.organs import organ_regions
from skiagraph.pipelines.paste import with_change
from skiagraph.pipelines.published import load_pipeline
from skiagraph.progress import Listener, progress

MARGIN = 0.06
"""Share of the picture's side by which the place of a finding is grown: lung masks end where an opacity begins."""


@dataclass(frozen=True)
class EditConfig:
    """What an edit does: `to` is the picture wanted, `source` says what the image shows now, as reports.

    `image` is a radiograph, a folder of them, or a CSV table with the columns image, to and, if wanted, from, whose
    paths are relative to it; a table's rows say themselves what they are to show. `progression` pictures lead from
    little to the full strength. `roi` is a mask file (a picture or a DICOM SEG) instead of the place that the words
    name. `organs` is what `organ_regions` takes. With `best_of` above 1, so many edits are made of each radiograph, all
    but the first from noise of their own, and the one that the classifier is moved most by is kept. `force` adds
    findings that the model's card says it does not draw.
    """

    image: str
    to: str = ""
    source: str = ""
    progression: int = 1
    roi: str | None = None
    organs: str = "shipped"
    best_of: int = 1
    force: bool = False
    model: str = DEFAULT_MODEL
    seed: int = 0
    settings: EditSettings = field(default_factory=EditSettings)
    dtype: str = "float32"
    device: str = AUTO


@dataclass(frozen=True)
class _Case:
    """One radiograph and what it is to show; its files go into `folder` below the run's."""

    image: str
    folder: str
    wish: Wish


def edit(
    config: EditConfig, output: Path, *, overwrite: bool = False, listen: Listener = progress,
    executor: Executor = HERE,
) -> dict[str, Any]:  # fmt: skip
    """Make the edits in `output`: `before.png`, `after-K.png`, `difference-K.png`, `region.png`, sheet and manifest.

    Pictures have the size of the input, and its 8 or 16 bits; of a DICOM file `after-K.dcm` is a derived image as well.
    The edit is computed at the model's size on the padded square; the change, not the picture, is brought back to full
    size, so that detail finer than the model's stays. Each of several radiographs gets a folder of its name; those that
    cannot be edited are listed in the manifest's `failed`, and tried again by the next run.

    Args:
        config: what to edit, and how.
        output: folder of the pictures and `manifest.json`.
        overwrite: remove what another run left in `output`.
        listen: hears of progress.
        executor: who works on it.

    Returns:
        The manifest, with the largest change outside the region (0 unless a file was given that covers everything), and
        what the shipped classifier says of each finding before and after; of a folder or a table, a list of `edits`.

    Raises:
        ImageError: an image that cannot be read, or a lateral view.
        ReportError: words without a finding to add or remove, or a finding to add that the model does not draw.
        DataError: no lungs found, or a region that is empty.
        MaskError: a region that cannot be read, is empty, or of another size than the image.
        ModelError: a model or a provider of organs that is not there.
        SkiagraphError: `output` holds another run.
    """
    cases = _cases(config, output, _domain(config).edits.read_wish)
    _check_drawn(cases.values(), config)
    single = not next(iter(cases.values())).folder
    with executor.start(partial(_Worker, config, output, strict=single), config.device) as work, open_run(
        output, "edit", plain(config, "device"), weights=weight_hashes(model_folder(config.model)),
        overwrite=overwrite, listen=listen,
    ) as run:  # fmt: skip
        outcome = run.each("editing", cases, work)
        rows = [kept.row for kept in outcome.kept.values()]
        if single:
            return run.finish(**rows[0])
        failed = [{"source": name, "error": error} for name, error in outcome.failed.items()]
        return run.finish(edits=rows, failed=failed)


def _domain(config: EditConfig) -> Domain:
    """The domain of the model's pictures, which edits know and a classifier reads."""
    domain = model_domain(model_folder(config.model))
    if not (domain.edits and domain.judge):
        raise ModelError(f"{config.model} makes pictures of the domain {domain.name!r}, of which edits know nothing")
    return domain


def _cases(config: EditConfig, output: Path, read_wish: Callable[[str, str], Wish]) -> dict[str, _Case]:
    """What is to be edited, by name."""
    given = Path(config.image)
    if given.suffix.lower() == ".csv":
        rows = read_table(given, "image")
        asked = [
            (str(given.parent / r["image"]), r.get("to") or config.to, r.get("from") or config.source) for r in rows
        ]
        folders = [f"{n:05d}-{Path(image).stem}" for n, (image, _, _) in enumerate(asked)]
        return {f: _Case(image, f, read_wish(to, was)) for f, (image, to, was) in zip(folders, asked, strict=True)}
    wish = read_wish(config.to, config.source)
    if not given.is_dir():
        return {str(given): _Case(config.image, "", wish)}
    inputs = list_inputs([config.image], output)
    return {item.name: _Case(str(item.source), item.name, wish) for item in inputs.items}


def _check_drawn(cases: Iterable[_Case], config: EditConfig) -> None:
    """Raise ReportError for findings to add that the model's card says it does not draw."""
    unable = not_drawn(model_folder(config.model))
    asked = {finding.name for case in cases for finding in case.wish.come} & unable
    if asked and not config.force:
        raise ReportError(
            f"{config.model} does not draw {', '.join(sorted(asked))}, says its card; leave it out, or force it to try"
        )


class _Worker:
    """Edits radiographs one by one; `strict` raises what is wrong with one instead of listing it."""

    def __init__(self, config: EditConfig, output: Path, *, strict: bool) -> None:
        self.config, self.output, self.strict = config, output, strict
        self.pipeline = load_pipeline(config.model, dtype=getattr(torch, config.dtype), device=config.device)
        self.edits, self.reader = self.pipeline.domain.edits, Reader(self.pipeline.domain)

    def __call__(self, cases: Sequence[_Case]) -> Iterator[Done]:
        for case in cases:
            try:
                yield self._edited(case)
            except (ImageError, DataError, MaskError) as error:
                if self.strict:
                    raise
                yield Done(None, error=str(error))

    def _edited(self, case: _Case) -> Done:
        config, wish = self.config, case.wish
        radiograph = read_radiograph(case.image)
        require_frontal("LATERAL" if wish.lateral else radiograph.view, case.image)
        own = read_region(config.roi, radiograph.pixels.shape, radiograph.uid) if config.roi else None
        side = self.pipeline.image_side
        small = square(radiograph.pixels, side, fit="pad")
        regions = self.edits.regions(organ_regions(config.organs, small, radiograph))
        if own is None:
            roi = self.edits.place(wish.findings, regions, MARGIN)
        else:
            roi = square(own.astype(np.float32), side) >= 0.5
        place = own if own is not None else unsquare(roi.astype(np.float32), radiograph.pixels.shape) >= 0.5
        frames, whole = [], config.settings if wish.come else config.settings.to_clear()
        for number in range(1, config.progression + 1):
            settings = replace(whole, strength=whole.strength * number / config.progression)
            made, read = self._best(small, wish, roi, regions, settings)
            change = unsquare(made.change, radiograph.pixels.shape)
            feather = settings.feather * max(radiograph.pixels.shape) / side
            frames.append(
                _Frame(
                    with_change(radiograph.pixels, change, place, feather, made.levels), settings.strength, made, read,
                    self.edits.changes(small, made.image, regions),
                )
            )  # fmt: skip
        rows, files = _write(self.output, case, radiograph, place, frames)
        named = {"file": case.image, "folder": case.folder} if case.folder else {}
        row = {"image": sha256(radiograph.source), "target": wish.target, "source": wish.source, "frames": rows}
        return Done(named | row, files=files)

    def _best(
        self, small: np.ndarray, wish: Wish, roi: np.ndarray, regions: Regions, settings: EditSettings
    ) -> tuple[Edit, list[dict[str, Any]]]:
        """The edit, of `best_of`, that moves the classifier most, and how it reads."""
        tries, still = [], np.logical_or.reduce([regions[name] for name in self.edits.still])
        for number in range(self.config.best_of):
            varied = replace(settings, start="noise") if number else settings
            made = edit_image(
                self.pipeline, small, target=wish.target, source=wish.source, words=wish.words, roi=roi,
                anatomy=still, direction=self.edits.direction(wish.come, wish.go), settings=varied,
                seed=self.config.seed + number,
            )  # fmt: skip
            tries.append((made, self.reader(small, made.image, wish.come, wish.go, regions)))
        return max(tries, key=lambda one: sum(said.get("towards", 0.0) for said in one[1]))


@dataclass(frozen=True)
class _Frame:
    picture: np.ndarray
    strength: float
    made: Edit
    read: list[dict[str, Any]]
    density: dict[str, float]


def _write(
    output: Path, case: _Case, radiograph: Radiograph, roi: np.ndarray, frames: Sequence[_Frame]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Write a case's pictures; a row per frame, and the files."""
    folder, wish, before = Path(case.folder), case.wish, radiograph.pixels
    series = generate_uid() if is_dicom(radiograph.source) else None
    files = {"before": folder / "before.png", "region": folder / "region.png", "sheet": folder / SHEET_NAME}
    write_png(output / files["before"], before, bits=radiograph.bits)
    write_png(output / files["region"], roi.astype(np.float32))
    rows = []
    for number, frame in enumerate(frames, start=1):
        after, difference = folder / f"after-{number}.png", folder / f"difference-{number}.png"
        text = {**SYNTHETIC_TEXT, "Edit": f"{wish.source} -> {wish.target}", "Strength": f"{frame.strength:.3f}"}
        change = frame.picture - before
        write_png(output / after, frame.picture, text=text, bits=radiograph.bits)
        write_png(output / difference, (0.5 + change / 2).clip(0, 1), text=text, bits=radiograph.bits)
        files |= {f"after {number}": after, f"difference {number}": difference}
        if series is not None:
            files[f"dicom {number}"] = after.with_suffix(".dcm")
            write_derived_dicom(
                output / files[f"dicom {number}"], radiograph.source, frame.picture, text["Edit"], series
            )
        rows.append(
            {
                "file": str(after), "strength": round(frame.strength, 3), "localisation": frame.made.scores,
                "latent_steps": frame.made.moved, "read": frame.read,
                "density_change": frame.density,
                "largest_change_outside": float(np.abs(change)[~roi].max(initial=0.0)),
                "mean_change_inside": float(np.abs(change)[roi].mean()), "sha256": sha256(output / after),
            }
        )  # fmt: skip
    captions = [f"{wish.target} ({row['strength']})" for row in rows]
    _write_sheet(output / files["sheet"], before, [frame.picture for frame in frames], roi, captions)
    return rows, tuple(map(str, files.values()))


def _write_sheet(path: Path, before: np.ndarray, frames: list[np.ndarray], roi: np.ndarray, names: list[str]) -> None:
    last = frames[-1]
    shown = [before, *frames, 0.5 + (last - before) / 2, 0.3 * last + 0.7 * roi]
    sheet = [square(p.clip(0, 1).astype(np.float32), 256) for p in shown]
    write_contact_sheet(path, sheet, ["before", *names, "difference", "region"])
