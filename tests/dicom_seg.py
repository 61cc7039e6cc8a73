"""DICOM SEG files for tests, with the few fields that say which frame is which segment."""

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid


def segmentation(path, segments):
    """Write bool masks (H, W) by label as a file with one binary frame each."""
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
    bits = np.packbits(frames.ravel(), bitorder="little").tobytes()
    made.PixelData = bits + bytes(len(bits) % 2)
    made.save_as(path, enforce_file_format=True)


def _item(**values):
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
