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
