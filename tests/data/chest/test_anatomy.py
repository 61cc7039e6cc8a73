import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.data.chest.anatomy import REGIONS, components, estimate_heart, one_piece, regions_of, split_lungs
from skiagraph.errors import DataError


def lungs(size=96, gap=12):
    """Two boxes: the right lung on the left of the picture."""
    right, left = np.zeros((2, size, size), bool)
    middle = size // 2
    right[20:70, 10 : middle - gap // 2] = True
    left[20:76, middle + gap // 2 : size - 10] = True
    return right, left


def test_split_gives_the_patients_right_lung_from_the_pictures_left():
    right, left = lungs()
    found = split_lungs(right | left)
    assert np.array_equal(found[0], right)
    assert np.array_equal(found[1], left)


def test_split_ignores_specks():
    right, left = lungs()
    speckled = right | left
    speckled[0, 0] = True
    found = split_lungs(speckled)
    assert np.array_equal(found[0] | found[1], right | left)


def test_components_come_by_size():
    right, left = lungs()
    speckled = right | left
    speckled[0, 0] = True
    found = list(components(speckled))
    assert [c.sum() for c in found] == sorted([right.sum(), left.sum(), 1], reverse=True)
    assert np.array_equal(np.any(found, axis=0), speckled)
    assert list(components(np.zeros((8, 8), bool))) == []


def test_one_component_is_refused():
    right, _ = lungs()
    with pytest.raises(DataError, match="1 large component"):
        split_lungs(right)


@settings(max_examples=20, deadline=None)
@given(gap=st.integers(4, 30), size=st.integers(80, 160))
def test_zones_part_each_lung(gap, size):
    right, left = lungs(size, gap)
    regions = regions_of(right, left)
    assert tuple(regions) == REGIONS
    for side, lung in (("right", right), ("left", left)):
        zones = [regions[f"{side} {zone} zone"] for zone in ("upper", "mid", "lower")]
        assert np.array_equal(np.sum(zones, axis=0), lung.astype(int))
        centres = [np.argwhere(z)[:, 0].mean() for z in zones]
        assert centres == sorted(centres)


def test_heart_lies_between_and_to_the_patients_left():
    right, left = lungs()
    heart = estimate_heart(right, left)
    rows, columns = np.argwhere(heart).T
    assert columns.mean() > 48
    assert rows.mean() > np.argwhere(right | left)[:, 0].mean()
    assert 0.05 < heart.mean() < 0.3


def test_empty_lung_is_refused():
    right, left = lungs()
    with pytest.raises(DataError, match="lung mask is empty"):
        regions_of(right, np.zeros_like(left))


def test_every_class_is_one_piece_without_holes():
    labels = np.zeros((12, 12), np.uint8)
    labels[1:6, 1:6], labels[3, 3], labels[9:11, 1:3] = 1, 0, 1
    labels[1:4, 8:11], labels[8, 8] = 2, 2
    whole = one_piece(labels)
    assert (whole[1:6, 1:6] == 1).all()
    assert (whole[1:4, 8:11] == 2).all()
    assert (whole > 0).sum() == 25 + 9
    assert not one_piece(np.zeros((4, 4), np.uint8)).any()
