"""DICOM files for tests: pictures, and SEG files with the few fields that say which frame is which segment."""

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, SegmentationStorage, generate_uid

STORED = np.round(np.linspace(0, 4095, 64 * 48)).reshape(48, 64)
"""A ramp over 12 bits."""


def write_dicom(path, values=STORED, *, meta=True, **tags):
    """Write a grey picture of up to 12 bits, with or without preamble and header; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = FileMetaDataset()
    header.TransferSyntaxUID = ExplicitVRLittleEndian
    header.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    header.MediaStorageSOPInstanceUID = generate_uid()
    d = FileDataset(str(path), {}, file_meta=header, preamble=b"\0" * 128)
    d.SOPClassUID, d.SOPInstanceUID = header.MediaStorageSOPClassUID, header.MediaStorageSOPInstanceUID
    d.Rows, d.Columns = values.shape[:2]
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    for name, value in tags.items():
        setattr(d, name, value)
    d.PixelData = values.astype(np.uint8 if d.BitsAllocated == 8 else np.uint16).tobytes()
    if meta:
        d.save_as(path, enforce_file_format=True)
    else:
        d.preamble, d.file_meta = None, FileMetaDataset()
        d.save_as(path, implicit_vr=True, little_endian=True)
    return path


def segmentation(path, segments, of=None):
    """Write bool masks (H, W) by label as a file with one binary frame each, of the image with the UID `of`."""
    made, frames = Dataset(), np.stack(list(segments.values()))
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SegmentationStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.Modality, made.SegmentationType = "SEG", "BINARY"
    made.NumberOfFrames, made.Rows, made.Columns = frames.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 1, 1, 0
    made.SegmentSequence = Sequence(_item(SegmentNumber=k, SegmentLabel=n) for k, n in enumerate(segments, 1))
    made.PerFrameFunctionalGroupsSequence = Sequence(
        _item(SegmentIdentificationSequence=Sequence([_item(ReferencedSegmentNumber=k)]))
        for k in range(1, len(segments) + 1)
    )
    if of is not None:
        instances = Sequence([_item(ReferencedSOPInstanceUID=of)])
        made.ReferencedSeriesSequence = Sequence([_item(ReferencedInstanceSequence=instances)])
    bits = np.packbits(frames.ravel(), bitorder="little").tobytes()
    made.PixelData = bits + bytes(len(bits) % 2)
    made.save_as(path, enforce_file_format=True)


def _item(**values):
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
