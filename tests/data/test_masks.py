import numpy as np
import pytest
from PIL import Image

from dicom_files import segmentation
from skiagraph.data.masks import (
    LUNG_SIDES,
    components,
    one_piece,
    read_mask,
    read_region,
    read_segments,
    split_lungs,
    write_mask,
)
from skiagraph.errors import DataError, MaskError


def saved(tmp_path, values):
    Image.fromarray(np.asarray(values, np.uint8)).save(tmp_path / "m.png")
    return tmp_path / "m.png"


@pytest.fixture
def lungs():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 15:35] = mask[10:50, 45:65] = 255
    return mask


def test_one_class_and_sides(tmp_path, lungs):
    path = saved(tmp_path, lungs)
    assert np.array_equal(read_mask(path, 60, fit="crop", classes=["lung"]), lungs[:, 10:70] > 0)
    sides = read_mask(path, 80, fit="pad", classes=LUNG_SIDES)
    assert np.array_equal(sides[10:70] > 0, lungs > 0)
    assert (sides[:, :40] != 2).all()
    assert (sides[:, 40:] != 1).all()


def test_stored_labels(tmp_path, lungs):
    labels = lungs // 255
    labels[:, 40:] *= 2
    assert np.array_equal(read_mask(saved(tmp_path, labels), 60, fit="crop", classes=["a", "b"]), labels[:, 10:70])
    assert not read_mask(saved(tmp_path, labels * 0), 60, fit="crop", classes=["a"]).any()


def test_faults_are_named(tmp_path, lungs):
    for values, classes, message in (
        (lungs, ["a", "b"], "two values"),
        (np.arange(4).repeat(20).reshape(8, 10), ["a", "b"], "label 3 beyond the 2"),
        (np.where(np.arange(80) < 40, lungs, 0), LUNG_SIDES, "two lungs are needed"),
    ):
        with pytest.raises(DataError, match=message):
            read_mask(saved(tmp_path, values), 60, fit="crop", classes=classes)
    (tmp_path / "m.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_mask(tmp_path / "m.png", 60, fit="crop", classes=["a"])


def test_segments_of_a_dicom_file(tmp_path):
    rng = np.random.default_rng(0)
    lung, heart = rng.random((2, 33, 41)) > 0.5
    segmentation(tmp_path / "s.dcm", {"Left Lung": lung, "heart": heart})
    found = read_segments(tmp_path / "s.dcm")
    assert list(found) == ["left lung", "heart"]
    assert np.array_equal(found["left lung"], lung)
    assert np.array_equal(found["heart"], heart)
    assert np.array_equal(read_region(tmp_path / "s.dcm", (33, 41)), lung | heart)
    with pytest.raises(MaskError, match="both need one size"):
        read_region(tmp_path / "s.dcm", (41, 33))
    (tmp_path / "s.dcm").write_bytes((tmp_path / "s.dcm").read_bytes()[:400])
    with pytest.raises(MaskError, match="not a readable DICOM SEG"):
        read_segments(tmp_path / "s.dcm")


def test_regions_of_pictures(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match="is empty"):
        read_region(tmp_path / "m.png", (20, 30))
    mask[4:8, 5:9] = 1
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert np.array_equal(read_region(tmp_path / "m.png", (20, 30)), mask > 0)


@pytest.mark.parametrize("classes", [["lung"], ["right lung", "left lung"], ["a", "b", "c"]])
def test_written_masks_are_read_back(tmp_path, classes):
    for present in range(len(classes) + 1):
        labels = np.zeros((40, 40), np.uint8)
        labels[8:20, 8:30] = present
        write_mask(tmp_path / "m.png", labels, classes)
        assert np.array_equal(read_mask(tmp_path / "m.png", 40, fit="pad", classes=classes), labels)


def test_labels_that_touch_stay_labels_at_any_size(tmp_path):
    labels = np.zeros((64, 64), np.uint8)
    labels[:, :33], labels[:, 33:] = 1, 2
    Image.fromarray(labels).save(tmp_path / "m.png")
    for size in range(20, 64):
        found = read_mask(tmp_path / "m.png", size, fit="pad", classes=["right lung", "left lung"])
        assert set(np.unique(found)) <= {0, 1, 2}
        assert found.dtype == np.uint8


@pytest.fixture
def boxes():
    """Two lungs as boxes, the right one on the left of the picture."""
    right, left = np.zeros((2, 96, 96), bool)
    right[20:70, 10:42], left[20:76, 54:86] = True, True
    return right, left


def test_split_gives_the_patients_right_lung_from_the_pictures_left(boxes):
    right, left = boxes
    found = split_lungs(right | left)
    assert np.array_equal(found[0], right)
    assert np.array_equal(found[1], left)


def test_split_ignores_specks(boxes):
    right, left = boxes
    speckled = right | left
    speckled[0, 0] = True
    found = split_lungs(speckled)
    assert np.array_equal(found[0] | found[1], right | left)


def test_components_come_by_size(boxes):
    right, left = boxes
    speckled = right | left
    speckled[0, 0] = True
    found = list(components(speckled))
    assert [c.sum() for c in found] == sorted([right.sum(), left.sum(), 1], reverse=True)
    assert np.array_equal(np.any(found, axis=0), speckled)
    assert list(components(np.zeros((8, 8), bool))) == []


def test_one_component_is_refused(boxes):
    right, _ = boxes
    with pytest.raises(DataError, match="1 large component"):
        split_lungs(right)


def test_every_class_is_one_piece_without_holes():
    labels = np.zeros((12, 12), np.uint8)
    labels[1:6, 1:6], labels[3, 3], labels[9:11, 1:3] = 1, 0, 1
    labels[1:4, 8:11], labels[8, 8] = 2, 2
    whole = one_piece(labels)
    assert (whole[1:6, 1:6] == 1).all()
    assert (whole[1:4, 8:11] == 2).all()
    assert (whole > 0).sum() == 25 + 9
    assert not one_piece(np.zeros((4, 4), np.uint8)).any()
