"""Masks of DICOM radiographs as DICOM Segmentation objects, through highdicom (the extra `dicom-seg`)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

import skiagraph
from skiagraph.data.dicom import is_dicom, open_dicom
from skiagraph.data.masks import TINTS
from skiagraph.errors import ImageError, SkiagraphError
from skiagraph.files import atomic_path

SNOMED = {
    "lung": Code("39607008", "SCT", "Lung"),
    "right lung": Code("3341006", "SCT", "Right lung"),
    "left lung": Code("44029006", "SCT", "Left lung"),
}
"""Codes of class names; others get one of this package's own."""


MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime",
)  # fmt: skip
"""What a DICOM file must have but may leave empty, and what de-identification often takes out instead."""


def check_highdicom() -> None:
    """Raise SkiagraphError unless highdicom is installed."""
    if find_spec("highdicom") is None:
        raise SkiagraphError("DICOM SEG needs highdicom: pip install 'skiagraph[dicom-seg]', or use --format png")


def write_dicom_seg(path: Path, source: Path, labels: np.ndarray, classes: Sequence[str], model: str | None) -> None:
    """Write a binary SEG that refers to `source`, one segment a class; patient and study are the source's.

    A radiograph has no position in space, so the SEG has none either unless its source states one.

    Args:
        path: of the SEG.
        source: a DICOM radiograph of one frame.
        labels: uint8 (Rows, Columns), 0 background, k the k-th of `classes`.
        classes: names of the segments.
        model: name of what made them; None for masks that a person drew.

    Raises:
        ImageError: a source that is not DICOM, or lacks what a SEG must repeat of it.
    """
    import highdicom as hd

    if not is_dicom(source):
        raise ImageError(f"{source} is not DICOM, so it cannot have a DICOM SEG; use --format png")
    dataset = open_dicom(source, stop_before_pixels=True)
    orientation = dataset.get("PatientOrientation") or ""
    for keyword in MAY_BE_EMPTY:
        dataset.setdefault(keyword, "")
    kind, made_by = hd.seg.SegmentAlgorithmTypeValues.MANUAL, None
    if model is not None:
        kind = hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
        made_by = hd.AlgorithmIdentificationSequence(model, codes.cid7162.ArtificialIntelligence, skiagraph.__version__)
    segments = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.AnatomicalStructure, _code(name), kind, made_by,
            display_color=hd.color.CIELabColor.from_rgb(*map(int, TINTS[(number - 1) % len(TINTS)])),
        )
        for number, name in enumerate(classes, start=1)
    ]  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom's of segments without a pixel
            made = hd.seg.Segmentation(
                [dataset],
                labels,
                hd.seg.SegmentationTypeValues.BINARY,
                segments,
                series_instance_uid=generate_uid(),
                series_number=1,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="skiagraph",
                manufacturer_model_name=model or "skiagraph",
                software_versions=skiagraph.__version__,
                device_serial_number="0",
                omit_empty_frames=False,
                content_label="SKIAGRAPH",
                content_description="Made by a program for research, not for clinical use",
            )
            made.PatientOrientation = orientation
            made.SeriesDescription = f"skiagraph: {', '.join(classes)}"[:64]  # fmt: skip
    except (AttributeError, ValueError, TypeError) as error:
        raise ImageError(f"no DICOM SEG can refer to {source} ({' '.join(str(error).split())[:200]})") from error
    with atomic_path(path) as temporary:
        made.save_as(temporary)


def _code(name: str) -> Code:
    return SNOMED.get(name, Code(name.upper().replace(" ", "_")[:16], "99SKIAGRAPH", name))
