"""DICOM SEG: read back with pydicom, and what a radiograph without a place in space must not be given."""

import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

import phantoms
import tiny
from skiagraph.data.dicom_seg import write_dicom_seg
from skiagraph.data.masks import read_segments
from skiagraph.engine.segment import SegmentConfig, segment
from skiagraph.errors import ImageError, SkiagraphError
from skiagraph.progress import silent

CLASSES = ("right lung", "left lung")


@pytest.fixture
def radiograph(tmp_path):
    """A chest X-ray as a DICOM file, 60 rows and 64 columns."""
    pixels = phantoms.thorax(np.random.default_rng(0))[0][:60]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = generate_uid(), ExplicitVRLittleEndian
    dataset = FileDataset(str(tmp_path / "x.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = "DX", "p1", "Phantom"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 60, 64, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelData = 7, pixels.tobytes()
    dataset.save_as(tmp_path / "x.dcm")
    return tmp_path / "x.dcm"


def test_segments_are_read_back(radiograph, tmp_path):
    pytest.importorskip("highdicom")
    labels = np.zeros((60, 64), np.uint8)
    labels[10:30, 5:20] = 1
    labels[12:40, 40:60] = 2
    write_dicom_seg(tmp_path / "s.dcm", radiograph, labels, CLASSES, "a model")
    made, source = pydicom.dcmread(tmp_path / "s.dcm"), pydicom.dcmread(radiograph)
    assert made.Modality == "SEG"
    assert [s.SegmentLabel for s in made.SegmentSequence] == list(CLASSES)
    assert [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in made.SegmentSequence] == ["3341006", "44029006"]
    assert np.array_equal(made.pixel_array, [labels == 1, labels == 2])
    assert (made.PatientID, made.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    referenced = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referenced.ReferencedSOPInstanceUID == source.SOPInstanceUID


@pytest.mark.parametrize("classes", [("lung",), CLASSES])
@pytest.mark.parametrize("empty", [False, True])
def test_one_segment_or_several_are_read_as_masks(radiograph, tmp_path, classes, empty):
    pytest.importorskip("highdicom")
    labels = np.zeros((60, 64), np.uint8)
    if not empty:
        labels[10:30, 5:20], labels[12:40, 40:60] = 1, len(classes)
    write_dicom_seg(tmp_path / "s.dcm", radiograph, labels, classes, "a model")
    found = read_segments(tmp_path / "s.dcm")
    assert list(found) == list(classes)
    for number, name in enumerate(classes, start=1):
        assert np.array_equal(found[name], labels == number)


def test_no_place_in_space_is_invented_and_empty_masks_are_masks(radiograph, tmp_path):
    pytest.importorskip("highdicom")
    write_dicom_seg(tmp_path / "s.dcm", radiograph, np.zeros((60, 64), np.uint8), CLASSES, "a model")
    made = pydicom.dcmread(tmp_path / "s.dcm")
    assert made.pixel_array.shape == (2, 60, 64)
    assert not made.pixel_array.any()
    text = str(made)
    for tag in ("Image Position", "Image Orientation", "Frame of Reference UID"):
        assert tag not in text


def test_the_job_takes_dicom_only_and_needs_highdicom(radiograph, tmp_path, monkeypatch):
    pytest.importorskip("highdicom")
    tiny.lung_segmenter().save_pretrained(tmp_path / "m")
    Image.fromarray(phantoms.thorax(np.random.default_rng(1))[0]).save(tmp_path / "y.png")
    config = SegmentConfig((str(radiograph), str(tmp_path / "y.png")), model=str(tmp_path / "m"), form="dicom-seg")
    manifest = segment(config, tmp_path / "o", listen=silent)
    assert [row["mask"] for row in manifest["images"]] == ["masks/x.dcm"]
    assert "use --format png" in manifest["failed"][0]["error"]
    monkeypatch.setitem(sys.modules, "highdicom", None)
    monkeypatch.setattr("skiagraph.data.dicom_seg.find_spec", lambda name: None)
    with pytest.raises(SkiagraphError, match="pip install"):
        segment(config, tmp_path / "p", listen=silent)
    assert not (tmp_path / "p").exists()


def test_sources_that_lack_what_a_seg_repeats_are_named(radiograph, tmp_path):
    pytest.importorskip("highdicom")
    dataset = pydicom.dcmread(radiograph)
    del dataset.StudyInstanceUID
    dataset.save_as(radiograph)
    with pytest.raises(ImageError, match="StudyInstanceUID"):
        write_dicom_seg(tmp_path / "s.dcm", radiograph, np.zeros((60, 64), np.uint8), CLASSES, "a model")
    assert not (tmp_path / "s.dcm").exists()
