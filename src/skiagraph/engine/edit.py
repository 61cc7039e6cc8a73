"""The editing job: one real radiograph and a "what if" in, edited pictures, their difference and a manifest out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from skiagraph.data.anatomy import Regions
from skiagraph.data.captions import finding_phrase, report_prompt
from skiagraph.data.images import SYNTHETIC_TEXT, Radiograph, read_radiograph, square, unsquare, write_png
from skiagraph.data.masks import read_region, read_segments
from skiagraph.data.reports import Finding, Report, parse_report
from skiagraph.data.roi import roi_of
from skiagraph.engine.contact_sheet import write_contact_sheet
from skiagraph.engine.manifest import new_manifest, save_manifest
from skiagraph.errors import DataError, ImageError, MaskError, ReportError
from skiagraph.files import sha256, weight_hashes
from skiagraph.models.registry import DEFAULT_MODEL, model_folder
from skiagraph.pipelines.counterfactual import Edit, EditSettings, edit_image
from skiagraph.pipelines.organs import PROVIDERS, complete_regions
from skiagraph.pipelines.paste import with_change
from skiagraph.pipelines.text_to_image import TextToImagePipeline

MARGIN = 0.06
"""Share of the picture's side by which the place of a finding is grown: lung masks end where an opacity begins."""


@dataclass(frozen=True)
class EditConfig:
    """What an edit does: `to` is the picture wanted, `source` says what the image shows now, as reports.

    `progression` pictures lead from little to the full strength. `roi` is a mask file (a picture or a DICOM SEG)
    instead of the place that the words name. `organs` is a name of `PROVIDERS`, or a DICOM SEG file with segments
    "right lung" and "left lung".
    """

    image: str
    to: str
    source: str = ""
    progression: int = 1
    roi: str | None = None
    organs: str = "shipped"
    model: str = DEFAULT_MODEL
    seed: int = 0
    settings: EditSettings = field(default_factory=EditSettings)


def edit(config: EditConfig, output: Path) -> dict[str, Any]:
    """Make the edit in `output`: `before.png`, `after-K.png`, `difference-K.png`, a contact sheet and the manifest.

    Pictures have the size of the input. The edit is computed at the model's size on the padded square; the change, not
    the picture, is brought back to full size, so that detail finer than the model's stays.

    Returns:
        The manifest, with the largest change outside the region (0 unless a file was given that covers everything).

    Raises:
        ImageError: an image that cannot be read, or a lateral view.
        ReportError: words without a finding to add or remove.
        DataError: no lungs found, or a region that is empty.
        MaskError: a region that cannot be read, is empty, or of another size than the image.
        ModelError: a model or a provider of organs that is not there.
    """
    radiograph = read_radiograph(config.image)
    wish = read_wish(config.to, config.source)
    if radiograph.view == "LATERAL" or "lateral" in (parse_report(t).view for t in (config.to, config.source) if t):
        raise ImageError(f"{config.image} is a lateral view; the model and its organ masks know frontal views only")
    own = read_region(config.roi, radiograph.pixels.shape) if config.roi else None
    pipeline = TextToImagePipeline.load(config.model)
    side = pipeline.image_side
    small = square(radiograph.pixels, side, fit="pad")
    regions = _regions(config.organs, small, radiograph)
    roi = _places(wish.findings, regions) if own is None else square(own.astype(np.float32), side) >= 0.5
    full_roi = own if own is not None else unsquare(roi.astype(np.float32), radiograph.pixels.shape) >= 0.5
    manifest = new_manifest(
        "edit", asdict(config), weights=weight_hashes(model_folder(config.model)), image=sha256(radiograph.source),
        target=wish.target, source=wish.source, frames=[],
    )  # fmt: skip
    write_png(output / "before.png", radiograph.pixels)
    frames, scale = [], max(radiograph.pixels.shape) / side
    for number in range(1, config.progression + 1):
        settings = replace(config.settings, strength=config.settings.strength * number / config.progression)
        result = edit_image(
            pipeline, small, target=wish.target, source=wish.source, words=wish.words, roi=roi,
            anatomy=regions["lungs"] | regions["heart"], settings=settings, seed=config.seed,
        )  # fmt: skip
        edited = with_change(
            radiograph.pixels, unsquare(result.change, radiograph.pixels.shape), full_roi, settings.feather * scale
        )
        frames.append(edited)
        text = {**SYNTHETIC_TEXT, "Edit": f"{wish.source} -> {wish.target}", "Strength": f"{settings.strength:.3f}"}
        manifest["frames"].append(_write_frame(output, number, radiograph.pixels, edited, full_roi, result, text))
    captions = [f"{wish.target} ({row['strength']})" for row in manifest["frames"]]
    _write_sheet(output / "contact-sheet.png", radiograph.pixels, frames, full_roi, captions)
    save_manifest(output, manifest)
    return manifest


def find_regions(image: np.ndarray, organs: str = "shipped") -> Regions:
    """Organ regions of a float (H, W) image in [0, 1]; `organs` is a name of `PROVIDERS`.

    Raises:
        DataError: no two lungs, or an unknown provider.
    """
    if organs not in PROVIDERS:
        raise DataError(f"no organs {organs!r}; known: {', '.join(PROVIDERS)}, or the path of a DICOM SEG file")
    return complete_regions(PROVIDERS[organs](image))


@dataclass(frozen=True)
class Wish:
    """What an edit is to do, in the model's words.

    target: prompt of the picture wanted.
    source: prompt of the image as it is.
    findings: those that come, then those that go; their places are edited.
    words: of the target, for what comes, or for health where everything goes. None where a finding goes and others
        stay, for then no word of the target speaks of the change.
    """

    target: str
    source: str
    findings: list[Finding]
    words: list[str]


def read_wish(to: str, source: str = "") -> Wish:
    """Compare two reports, of the picture wanted and of the image as it is.

    What the source says of view, age and sex holds for the target too, unless it says otherwise. A source that names no
    finding is taken for a normal chest, which is what an added finding leads away from.

    Raises:
        ReportError: neither names a finding that the model was taught, or both name the same ones.
    """
    wished = parse_report(to)
    was = parse_report(source) if source.strip() else Report()
    wanted, had = ({p: f for f in r.findings if f.present and (p := finding_phrase(f))} for r in (wished, was))
    if not wanted and not had:
        raise ReportError(
            f"neither {to!r} nor --from {source!r} names a finding the model was taught; say what to add, or in --from "
            "what to take away"
        )
    come, go = ({p: f for p, f in some.items() if p not in others} for some, others in ((wanted, had), (had, wanted)))
    if not come and not go:
        raise ReportError(f"{to!r} and --from {source!r} name the same findings; nothing would change")
    kept = {name: getattr(wished, name) or getattr(was, name) for name in ("view", "age_group", "sex")}
    wished, was = (r if some else replace(r, normal=True) for r, some in ((wished, wanted), (was, had)))
    target = report_prompt(replace(wished, **kept))
    words = list(come) if wanted else [target.split(". ")[0]]
    return Wish(target, report_prompt(was), [*come.values(), *go.values()], words)


def _places(findings: list[Finding], regions: Regions) -> np.ndarray:
    """Where any of the findings lies, bool (H, W)."""
    return np.logical_or.reduce([roi_of(finding, regions, MARGIN) for finding in findings])


def _regions(organs: str, small: np.ndarray, radiograph: Radiograph) -> Regions:
    """Regions on the model's padded square, from a provider or from a DICOM SEG file of the radiograph's size."""
    if not Path(organs).is_file():
        return find_regions(small, organs)
    segments = read_segments(organs)
    shape = next(iter(segments.values())).shape
    if shape != radiograph.pixels.shape:
        raise MaskError(f"organs {organs} are {shape}, the image {radiograph.pixels.shape}; both need one size")
    side = len(small)
    return complete_regions({n: square(m.astype(np.float32), side) >= 0.5 for n, m in segments.items()})


def _write_frame(
    output: Path,
    number: int,
    before: np.ndarray,
    after: np.ndarray,
    roi: np.ndarray,
    result: Edit,
    text: dict[str, str],
) -> dict[str, Any]:
    """Write an edited picture and its difference, and say in a row what changed."""
    difference = after - before
    name = f"after-{number}.png"
    write_png(output / name, after, text=text)
    write_png(output / f"difference-{number}.png", (0.5 + difference / 2).clip(0, 1), text=text)
    return {
        "file": name, "strength": float(text["Strength"]), "localisation": result.scores, "latent_steps": result.moved,
        "largest_change_outside": float(np.abs(difference)[~roi].max(initial=0.0)),
        "mean_change_inside": float(np.abs(difference)[roi].mean()), "sha256": sha256(output / name),
    }  # fmt: skip


def _write_sheet(path: Path, before: np.ndarray, frames: list[np.ndarray], roi: np.ndarray, names: list[str]) -> None:
    last = frames[-1]
    shown = [before, *frames, 0.5 + (last - before) / 2, 0.3 * last + 0.7 * roi]
    sheet = [square(p.clip(0, 1).astype(np.float32), 256) for p in shown]
    write_contact_sheet(path, sheet, ["before", *names, "difference", "region"])
