"""Pictures as DICOM Secondary Captures: derived from a radiograph, synthetic, or brought in from other formats."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

import skiagraph
from skiagraph.data.dicom import open_dicom
from skiagraph.data.images import SYNTHETIC_TEXT
from skiagraph.files import atomic_path

PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
"""What a derived image takes over; what a file must have of it, and the source lacks, is left empty."""

MUST_BE_THERE = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip

BITS = 12
"""Of a stored pixel: what most detectors give."""


def write_derived_dicom(path: Path, source: Path, pixels: np.ndarray, description: str, series: str) -> None:
    """Write a picture that was made from a DICOM radiograph as a Secondary Capture of the same study.

    Its class, image type (DERIVED), description and comment say that no detector saw it. Window and rescaling are in
    the pixels already.

    Args:
        path: of the new file.
        source: the radiograph.
        pixels: float (Rows, Columns) in [0, 1], bright = dense.
        description: how it was derived.
        series: UID of its series.

    Raises:
        ImageError: a source that cannot be read.
    """
    original = open_dicom(source, stop_before_pixels=True)
    made = _new_file(generate_uid())
    for keyword in PATIENT_AND_STUDY:
        if keyword in original:
            made[keyword] = original[keyword]
    made.setdefault("StudyInstanceUID", generate_uid())
    made.ConversionType = "WSD"
    made.BodyPartExamined = original.get("BodyPartExamined") or "CHEST"
    made.SeriesInstanceUID, made.SeriesDescription = series, "skiagraph: edited, synthetic"
    made.DerivationDescription = description[:1024]
    made.ImageComments = SYNTHETIC_TEXT["Synthetic"]
    made.PatientOrientation = original.get("PatientOrientation") or ""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        if original.get(keyword):
            made[keyword] = original[keyword]
    made.SourceImageSequence = Sequence([_reference(original)])
    _set_pixels(made, pixels, BITS)
    _save(made, path)


def write_capture(
    path: Path, pixels: np.ndarray, patient: Mapping[str, str], description: str, *, synthetic: bool, bits: int = 8
) -> Dataset:
    """Write a picture that no DICOM file stands behind as a Secondary Capture, in a study of its own.

    The same picture of the same patient gets the same UIDs again.

    Args:
        path: of the new file.
        pixels: float (Rows, Columns) or (Rows, Columns, 3) in [0, 1], bright = dense.
        patient: attributes of patient and study by keyword, such as `PatientID`.
        description: what the picture is said to show.
        synthetic: whether to say that no detector saw it.
        bits: 8 or `BITS` of a stored grey pixel; colours have 8.

    Returns:
        What was written.
    """
    content = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    study, series, instance = (
        generate_uid(entropy_srcs=[patient.get("PatientID", ""), content, part])
        for part in ("study", "series", "image")
    )
    made = _new_file(instance)
    for keyword, value in patient.items():
        setattr(made, keyword, value)
    made.StudyInstanceUID, made.SeriesInstanceUID = study, series
    made.ConversionType = "SYN" if synthetic else "WSD"
    made.SeriesDescription = "skiagraph: synthetic" if synthetic else "skiagraph: from a picture file"
    said = [SYNTHETIC_TEXT["Synthetic"]] if synthetic else []
    made.ImageComments = " ".join([*said, *description.split()])[:10240]
    made.PatientOrientation, made.Laterality = "", ""
    _set_pixels(made, pixels, bits)
    _save(made, path)
    return made


def _new_file(uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, uid
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    now = datetime.datetime.now()
    made.ContentDate, made.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.InstanceCreationDate, made.InstanceCreationTime = made.ContentDate, made.ContentTime
    made.Manufacturer, made.SecondaryCaptureDeviceManufacturer = "skiagraph", "skiagraph"
    made.SecondaryCaptureDeviceSoftwareVersions = skiagraph.__version__
    made.Modality, made.SeriesNumber, made.InstanceNumber = "OT", None, "1"
    made.ImageType, made.BurnedInAnnotation = ["DERIVED", "SECONDARY"], "NO"
    return made


def _reference(original: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = original.SOPClassUID, original.SOPInstanceUID
    return item


def _set_pixels(made: Dataset, pixels: np.ndarray, bits: int) -> None:
    colour = pixels.ndim == 3
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel, made.PixelRepresentation = (3 if colour else 1), 0
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated, made.BitsStored, made.HighBit = (8 if bits == 8 else 16), bits, bits - 1
    stored = np.round(pixels * (2**bits - 1)).astype(np.uint8 if bits == 8 else "<u2").tobytes()
    made.PixelData = stored + bytes(len(stored) % 2)
    if not colour:
        made.WindowCenter, made.WindowWidth = 2 ** (bits - 1), 2**bits


def _save(made: FileDataset, path: Path) -> None:
    for keyword in MUST_BE_THERE:
        made.setdefault(keyword, "")
    with atomic_path(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)
