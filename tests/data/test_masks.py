import numpy as np
import pytest
from PIL import Image

from skiagraph.data.masks import LUNG_SIDES, read_mask, write_mask
from skiagraph.errors import DataError


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


@pytest.mark.parametrize("classes", [["lung"], ["right lung", "left lung"], ["a", "b", "c"]])
def test_written_masks_are_read_back(tmp_path, classes):
    for present in range(len(classes) + 1):
        labels = np.zeros((40, 40), np.uint8)
        labels[8:20, 8:30] = present
        write_mask(tmp_path / "m.png", labels, classes)
        assert np.array_equal(read_mask(tmp_path / "m.png", 40, fit="pad", classes=classes), labels)
