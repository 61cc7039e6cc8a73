import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.data.chest.anatomy import REGIONS, estimate_heart, regions_of
from skiagraph.errors import DataError


def lungs(size=96, gap=12):
    """Two boxes: the right lung on the left of the picture."""
    right, left = np.zeros((2, size, size), bool)
    middle = size // 2
    right[20:70, 10 : middle - gap // 2] = True
    left[20:76, middle + gap // 2 : size - 10] = True
    return right, left


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
