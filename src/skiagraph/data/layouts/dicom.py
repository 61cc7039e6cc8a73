"""A tree of DICOM files: radiographs, and SEG files and Structured Reports that refer to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset

from skiagraph.data.dicom import is_dicom, open_dicom, referenced_images
from skiagraph.data.dicom_image import BITS, write_capture
from skiagraph.data.dicom_report import report_text, write_report
from skiagraph.data.dicom_seg import check_highdicom, write_dicom_seg
from skiagraph.data.images import SYNTHETIC_TEXT, list_pictures, read_image
from skiagraph.data.layouts.case import Case, read_labels, sex_of, years
from skiagraph.data.masks import read_segments
from skiagraph.errors import DataError

MAKER = "skiagraph"
"""Named in a SEG as what drew the mask of a synthetic picture."""


def read(source: Path) -> list[Case]:
    """Cases of every radiograph below `source`; of several SEG files or reports of one image, the last by name counts.

    A file without PatientID is a patient of its own.

    Raises:
        DataError: no radiograph there.
    """
    listing = list_pictures(source)
    images = [path for path in listing.pictures if is_dicom(path)]
    if not images:
        raise DataError(f"{source} holds no DICOM radiograph; give the folder of a study or a patient")
    segments: dict[str, Path] = {}
    reports: dict[str, str] = {}
    for path in filter(is_dicom, sorted(listing.passed_over)):
        dataset = open_dicom(path, defer_size="1 KB")
        for uid in referenced_images(dataset):
            if dataset.get("Modality") == "SEG":
                segments[uid] = path
            elif dataset.get("Modality") == "SR":
                reports[uid] = report_text(dataset)
    return [_case(path, segments, reports) for path in images]


def write(cases: Mapping[str, Case], folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Write a folder for each patient: a Secondary Capture, a SEG of the mask and an SR of the report.

    Yields picture and SEG of each case. A picture that says that it is synthetic is one in DICOM too.

    Raises:
        SkiagraphError: masks or reports, and highdicom is absent.
    """
    if any(case.mask or case.report for case in cases.values()):
        check_highdicom()
    for name, case in cases.items():
        place = Path(re.sub(r"[^\w.-]", "_", case.patient).strip(".") or "unnamed") / name
        image, mask = f"{place}.dcm", f"{place}-mask.dcm" if case.mask else ""
        picture = read_image(case.image)
        made = write_capture(
            folder / image, picture.pixels, _patient(case), ", ".join(case.findings), synthetic=case.synthetic,
            bits=8 if picture.bits == 8 else BITS,
        )  # fmt: skip
        if isinstance(case.mask, Path):
            labels = read_labels(case.mask, classes)
            write_dicom_seg(folder / mask, folder / image, labels, classes, MAKER if case.synthetic else None)
        if case.report:
            write_report(folder / f"{place}-report.dcm", made, case.report, synthetic=case.synthetic)
        yield image, mask


def _patient(case: Case) -> dict[str, str]:
    """Attributes of a case's patient; DICOM has ages of one to three digits and a unit."""
    known = {"PatientID": case.patient[:64], "PatientName": f"{case.patient[:63]}^", "PatientSex": case.sex[:1].upper()}
    if case.age is not None:
        months = case.age < 2
        known["PatientAge"] = f"{round(case.age * 12 if months else case.age):03d}{'M' if months else 'Y'}"
    return known | ({"ViewPosition": case.view} if case.view else {})


def _case(path: Path, segments: Mapping[str, Path], reports: Mapping[str, str]) -> Case:
    header = open_dicom(path, stop_before_pixels=True)
    uid = str(header.get("SOPInstanceUID") or "")
    seg = segments.get(uid)
    classes = tuple(s.SegmentLabel.lower() for s in open_dicom(seg, defer_size="1 KB").SegmentSequence) if seg else ()
    return Case(
        path, str(header.get("PatientID") or "") or path.stem, view=str(header.get("ViewPosition") or ""),
        age=years(header.get("PatientAge")), sex=sex_of(header.get("PatientSex")), report=reports.get(uid, ""),
        mask=partial(_labels, seg, classes) if seg else None, classes=classes, synthetic=_says_synthetic(header),
    )  # fmt: skip


def _labels(seg: Path, classes: Sequence[str]) -> np.ndarray:
    """Label map uint8 (H, W) of a SEG file; where segments meet, the later one stays."""
    found = read_segments(seg)
    labels = np.zeros(next(iter(found.values())).shape, np.uint8)
    for number, name in enumerate(classes, start=1):
        labels[found[name]] = number
    return labels


def _says_synthetic(header: Dataset) -> bool:
    return SYNTHETIC_TEXT["Synthetic"].split()[0] in str(header.get("ImageComments") or "")
