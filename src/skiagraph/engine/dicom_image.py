"""Pictures made from DICOM radiographs as DICOM again: derived images that say so, in a series of their own."""

from __future__ import annotations

import datetime
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
    made = _new_file()
    for keyword in PATIENT_AND_STUDY:
        if keyword in original:
            made[keyword] = original[keyword]
    for keyword in MUST_BE_THERE:
        made.setdefault(keyword, "")
    made.setdefault("StudyInstanceUID", generate_uid())
    made.Modality, made.ConversionType = "OT", "WSD"
    made.BodyPartExamined = original.get("BodyPartExamined") or "CHEST"
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = series, None, "1"
    made.SeriesDescription = "skiagraph: edited, synthetic"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.DerivationDescription = description[:1024]
    made.ImageComments = SYNTHETIC_TEXT["Synthetic"]
    made.BurnedInAnnotation, made.PatientOrientation = "NO", original.get("PatientOrientation") or ""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        if original.get(keyword):
            made[keyword] = original[keyword]
    made.SourceImageSequence = Sequence([_reference(original)])
    _set_pixels(made, pixels)
    with atomic_path(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)


def _new_file() -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    now = datetime.datetime.now()
    made.ContentDate, made.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.InstanceCreationDate, made.InstanceCreationTime = made.ContentDate, made.ContentTime
    made.Manufacturer, made.SecondaryCaptureDeviceManufacturer = "skiagraph", "skiagraph"
    made.SecondaryCaptureDeviceSoftwareVersions = skiagraph.__version__
    return made


def _reference(original: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = original.SOPClassUID, original.SOPInstanceUID
    return item


def _set_pixels(made: Dataset, pixels: np.ndarray) -> None:
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, BITS, BITS - 1
    made.PixelData = np.round(pixels * (2**BITS - 1)).astype("<u2").tobytes()
    made.WindowCenter, made.WindowWidth = 2 ** (BITS - 1), 2**BITS
