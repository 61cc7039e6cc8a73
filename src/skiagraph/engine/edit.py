"""The editing job: one real radiograph and a "what if" in, edited pictures, their difference and a manifest out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from skiagraph.data.anatomy import Regions, regions_of
from skiagraph.data.captions import report_prompt
from skiagraph.data.images import SYNTHETIC_TEXT, Radiograph, read_radiograph, square, write_png
from skiagraph.data.reports import Finding, Report, parse_report
from skiagraph.data.roi import roi_of
from skiagraph.engine.contact_sheet import write_contact_sheet
from skiagraph.engine.manifest import new_manifest, save_manifest, weight_hashes
from skiagraph.errors import DataError, ImageError, MaskError, ReportError
from skiagraph.files import sha256
from skiagraph.models.registry import DEFAULT_MODEL, load_component, model_folder
from skiagraph.pipelines.counterfactual import EditSettings, edit_image, with_change
from skiagraph.pipelines.text_to_image import TextToImagePipeline

SEGMENTER = "lung-segmenter"
MARGIN = 0.04
"""Share of the picture's side by which the place of a finding is grown: lung masks end where an opacity begins."""

SMALLEST_LUNG = 0.015
"""Share of the picture below which what was found is not a lung."""


@dataclass(frozen=True)
class EditConfig:
    """What an edit does: `to` is the picture wanted, `source` says what the image shows now, as reports.

    `progression` pictures lead from little to the full strength. `roi` is a mask file instead of the place that the
    words name.
    """

    image: str
    to: str
    source: str = ""
    progression: int = 1
    roi: str | None = None
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
        MaskError: a region of another size than the image.
    """
    radiograph = read_radiograph(config.image)
    if radiograph.view == "LATERAL":
        raise ImageError(f"{config.image} is a lateral view; the model and its organ masks know frontal views only")
    target, source, finding = edit_prompts(config.to, config.source)
    pipeline = TextToImagePipeline.load(config.model)
    side = pipeline.image_side
    small = square(radiograph.pixels, side, fit="pad")
    regions = find_regions(small)
    own = _roi_file(config.roi, radiograph) if config.roi else None
    roi = roi_of(finding, regions, MARGIN) if own is None else square(own.astype(np.float32), side) >= 0.5
    full_roi = own if own is not None else _back(roi.astype(np.float32), radiograph) >= 0.5
    anatomy = regions["lungs"] | regions["heart"]
    manifest = _manifest(config, radiograph, target, source)
    write_png(output / "before.png", radiograph.pixels)
    frames, scale = [], max(radiograph.pixels.shape) / side
    for number in range(1, config.progression + 1):
        settings = replace(config.settings, strength=config.settings.strength * number / config.progression)
        result = edit_image(
            pipeline, small, target=target, source=source, words=[target.split(". ")[0]], roi=roi, anatomy=anatomy,
            settings=settings, seed=config.seed,
        )  # fmt: skip
        edited = with_change(radiograph.pixels, _back(result.change, radiograph), full_roi, settings.feather * scale)
        frames.append(edited)
        difference = edited - radiograph.pixels
        text = {**SYNTHETIC_TEXT, "Edit": f"{source} -> {target}", "Strength": f"{settings.strength:.3f}"}
        write_png(output / f"after-{number}.png", edited, text=text)
        write_png(output / f"difference-{number}.png", (0.5 + difference / 2).clip(0, 1), text=text)
        manifest["frames"].append(
            {
                "file": f"after-{number}.png", "strength": settings.strength, "localisation": result.scores,
                "largest_change_outside": float(np.abs(difference)[~full_roi].max(initial=0.0)),
                "mean_change_inside": float(np.abs(difference)[full_roi].mean()),
                "sha256": sha256(output / f"after-{number}.png"),
            }
        )  # fmt: skip
    shown = [radiograph.pixels, *frames, 0.5 + (frames[-1] - radiograph.pixels) / 2, 0.3 * frames[-1] + 0.7 * full_roi]
    captions = ["before", *(f"{target} ({row['strength']:.2f})" for row in manifest["frames"]), "difference", "region"]
    sheet = [square(p.clip(0, 1).astype(np.float32), 256) for p in shown]
    write_contact_sheet(output / "contact-sheet.png", sheet, captions)
    save_manifest(output, manifest)
    return manifest


@torch.no_grad()
def find_regions(image: np.ndarray) -> Regions:
    """Organ regions of a float (H, W) image in [0, 1], from the shipped lung segmenter; the heart's is an estimate.

    Raises:
        DataError: a lung was not found.
    """
    segmenter = load_component(SEGMENTER).eval()
    classes = segmenter.segment(torch.from_numpy(image)[None, None] * 2 - 1)[0].numpy()
    right, left = classes == 1, classes == 2
    if min(right.mean(), left.mean()) < SMALLEST_LUNG:
        raise DataError("no two lungs found in the picture; is it a frontal chest radiograph?")
    return regions_of(right, left)


def edit_prompts(to: str, source: str = "") -> tuple[str, str, Finding]:
    """(target, source, the finding that the edit is about), prompts in the model's words, of two reports.

    What the source says of view, age and sex holds for the target too, unless it says otherwise.

    Raises:
        ReportError: neither names a finding.
    """
    wished = parse_report(to)
    was = parse_report(source) if source.strip() else Report()
    wanted = [f for f in wished.findings if f.present] or [f for f in was.findings if f.present]
    if not wanted:
        raise ReportError(
            f"neither {to!r} nor --from {source!r} names a finding; say what to add, or in --from what to take away"
        )
    kept = {name: getattr(wished, name) or getattr(was, name) for name in ("view", "age_group", "sex")}
    if not any(f.present for f in wished.findings):
        wished = replace(wished, normal=True)
    return report_prompt(replace(wished, **kept)), report_prompt(was) if was != Report() else "", wanted[0]


def _back(field: np.ndarray, radiograph: Radiograph) -> np.ndarray:
    """A field on the padded square brought back to the radiograph's own size and shape."""
    height, width = radiograph.pixels.shape
    side = max(height, width)
    full = np.asarray(Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC))
    top, left = (side - height) // 2, (side - width) // 2
    return full[top : top + height, left : left + width]


def _roi_file(path: str, radiograph: Radiograph) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            mask = np.array(picture.convert("L")) > 0
    except OSError as error:
        raise MaskError(f"region {path} cannot be read ({error}); give a mask picture") from error
    if mask.shape != radiograph.pixels.shape:
        raise MaskError(f"region {path} is {mask.shape}, the image {radiograph.pixels.shape}; both need one size")
    return mask


def _manifest(config: EditConfig, radiograph: Radiograph, target: str, source: str) -> dict[str, Any]:
    return new_manifest(
        "edit", asdict(config), weights=weight_hashes(model_folder(config.model)), image=sha256(radiograph.source),
        target=target, source=source, frames=[],
    )  # fmt: skip
