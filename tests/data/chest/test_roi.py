import numpy as np
import pytest

from skiagraph.data.chest.anatomy import regions_of
from skiagraph.data.chest.reports import parse_report
from skiagraph.data.chest.roi import region_names, roi_of, roi_of_all
from skiagraph.errors import DataError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Consolidation in the left lower lobe.", ["left lower zone"]),
        ("Right upper and mid zone opacity.", ["right upper zone", "right mid zone"]),
        ("Left pleural effusion.", ["left lower zone"]),
        ("Pleural effusion.", ["right lung", "left lung"]),
        ("Bilateral lower zone opacities.", ["right lower zone", "left lower zone"]),
        ("Right pneumothorax.", ["right lung"]),
        ("Cardiomegaly.", ["heart"]),
        ("Pulmonary edema.", ["right lung", "left lung"]),
    ],
)
def test_words_to_regions(text, names):
    assert region_names(parse_report(text).findings[0]) == names


def test_the_union_of_regions_is_the_place():
    right, left = np.zeros((2, 60, 60), bool)
    right[10:50, 5:25] = left[10:50, 35:55] = True
    regions = regions_of(right, left)
    finding = parse_report("Pulmonary edema.").findings[0]
    assert np.array_equal(roi_of(finding, regions), right | left)
    with pytest.raises(DataError, match="no mask of left lung"):
        roi_of(finding, {"right lung": right})
    with pytest.raises(DataError, match="is empty"):
        roi_of(parse_report("Cardiomegaly.").findings[0], {"heart": np.zeros((60, 60), bool)})


def test_the_place_of_several_findings_is_the_union_of_theirs():
    right, left = np.zeros((2, 60, 60), bool)
    right[10:50, 5:25] = left[10:50, 35:55] = True
    regions = regions_of(right, left)
    both = parse_report("Left pleural effusion. Cardiomegaly.").findings
    expected = np.logical_or(*(roi_of(finding, regions, 0.05) for finding in both))
    assert np.array_equal(roi_of_all(both, regions, 0.05), expected)


def lungs():
    right, left = np.zeros((2, 100, 100), bool)
    right[10:90, 8:42] = left[10:90, 58:92] = True
    return regions_of(right, left)


def surface(roi, column):
    """Highest row of a region in a column."""
    return int(np.flatnonzero(roi[:, column])[0])


def test_fluid_stands_at_the_base_and_higher_at_the_wall():
    regions = lungs()
    for side, wall, middle in (("right", 9, 40), ("left", 90, 59)):
        roi = roi_of(parse_report(f"{side.title()} pleural effusion.").findings[0], regions)
        assert not (roi & ~regions[f"{side} lung"]).any()
        assert surface(roi, wall) < surface(roi, middle) - 10
        assert roi[89, 8 if side == "right" else 91]
    both = roi_of(parse_report("Bilateral pleural effusions.").findings[0], regions)
    assert both[88, 20]
    assert both[88, 80]


def test_more_fluid_stands_higher():
    regions = lungs()
    amounts = [
        roi_of(parse_report(f"{how} left effusion.").findings[0], regions) for how in ("Small", "Moderate", "Large")
    ]
    assert surface(amounts[0], 75) > surface(amounts[1], 75) > surface(amounts[2], 75)


def test_an_opacity_in_a_zone_has_no_corners():
    regions = lungs()
    zone = regions["left lower zone"]
    roi = roi_of(parse_report("Left lower lobe consolidation.").findings[0], regions)
    rows, columns = np.flatnonzero(zone.any(axis=1)), np.flatnonzero(zone.any(axis=0))
    assert roi[rows.mean().astype(int), columns.mean().astype(int)]
    assert not roi[rows[0], columns[0]]
    assert (roi & zone).sum() > 0.8 * zone.sum()
    assert not (roi & ~regions["left lung"]).any()
