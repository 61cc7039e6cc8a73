"""Changes that are where they were asked for, and changes that are not."""

import numpy as np
import pytest

import skiagraph.engine.reading as reading
from skiagraph.data.chest.anatomy import regions_of
from skiagraph.data.chest.changes import density_changes, direction_of, placed_as_named
from skiagraph.data.chest.reports import parse_report
from skiagraph.domains.chest import CHEST
from skiagraph.engine.reading import Reader

SIDE = 96


@pytest.fixture(scope="module")
def thorax():
    """(picture, regions): two dark lungs of one size, a dense heart between them."""
    right, left = np.zeros((2, SIDE, SIDE), bool)
    right[12:84, 10:40], left[12:84, 56:86] = True, True
    picture = np.full((SIDE, SIDE), 0.7, np.float32)
    picture[right | left] = 0.3
    return picture, regions_of(right, left)


def finding(text):
    (only,) = parse_report(text).findings
    return only


def changed(thorax, region, by):
    picture, regions = thorax
    return (picture + by * regions[region]).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "region", "by", "comes", "right"),
    [
        ("Dense opacity in the right upper zone.", "right upper zone", 0.2, True, True),
        ("Dense opacity in the right upper zone.", "left mid zone", 0.2, True, False),
        ("Dense opacity in the right upper zone.", "right upper zone", -0.2, True, False),
        ("Right pleural effusion.", "right lower zone", 0.2, True, True),
        ("Right pleural effusion.", "right lower zone", -0.2, False, True),
        ("Left lower lobe pneumonia.", "left lower zone", 0.2, False, False),
        ("Left pneumothorax.", "left lung", -0.2, True, True),
        ("Left pneumothorax.", "left lung", 0.2, True, False),
    ],
)
def test_a_change_is_placed_where_the_words_say_and_goes_the_right_way(thorax, text, region, by, comes, right):
    after = changed(thorax, region, by)
    assert placed_as_named(finding(text), comes, thorax[0], after, thorax[1]) is right
    assert placed_as_named(finding(text), comes, thorax[0], after, {}) is None


@pytest.mark.parametrize(
    ("come", "go", "direction"),
    [
        (["Right pleural effusion."], [], 1),
        ([], ["Right pleural effusion.", "Cardiomegaly."], -1),
        (["Left pneumothorax."], [], -1),
        (["Right pleural effusion."], ["Left pneumothorax."], 1),
        (["Right pleural effusion."], ["Left lower lobe pneumonia."], 0),
        (["Right pleural effusion.", "Left pneumothorax."], [], 0),
    ],
)
def test_findings_say_whether_all_becomes_denser_or_darker(come, go, direction):
    assert direction_of([finding(text) for text in come], [finding(text) for text in go]) == direction


def test_a_heart_grows_in_width_not_in_density(thorax):
    picture, regions = thorax
    denser, wider = picture.copy(), picture.copy()
    denser[40:70, 42:54] += 0.2
    wider[40:84, 34:70] = 0.7
    assert not placed_as_named(finding("Cardiomegaly."), True, picture, denser, regions)
    assert placed_as_named(finding("Cardiomegaly."), True, picture, wider, regions)
    assert placed_as_named(finding("Cardiomegaly."), False, wider, picture, regions)


def test_densities_change_by_zone(thorax):
    moved = density_changes(thorax[0], changed(thorax, "left mid zone", 0.2), thorax[1])
    assert moved["left mid zone"] == pytest.approx(0.2)
    assert moved["right mid zone"] == 0


@pytest.fixture
def reader(monkeypatch):
    """Its classifier gives findings 0.2 before and what `says` holds after."""
    says = {"effusion": 0.9, "abnormal": 0.05}
    monkeypatch.setattr(reading, "load_component", lambda name: None)
    monkeypatch.setattr(
        reading, "classify", lambda *_: (None, {name: np.array([0.2, value]) for name, value in says.items()})
    )
    return Reader(CHEST), says


def test_a_finding_has_come_when_the_classifier_and_its_place_say_so(thorax, reader):
    read, says = reader
    wanted, after = [finding("Right pleural effusion.")], changed(thorax, "right lower zone", 0.2)
    (row,) = read(thorax[0], after, wanted, [], thorax[1])
    assert row == {
        "finding": "effusion", "wanted": True, "done": True, "before": 0.2, "after": 0.9, "towards": 0.7, "placed": True
    }  # fmt: skip
    assert not read(thorax[0], changed(thorax, "left lower zone", 0.2), wanted, [], thorax[1])[0]["done"]
    says["effusion"] = 0.25
    assert not read(thorax[0], after, wanted, [], thorax[1])[0]["done"]
    assert read(thorax[0], thorax[0], [], wanted, thorax[1])[0]["wanted"] is False


def test_a_finding_that_no_classifier_knows_is_read_by_its_place(thorax, reader):
    wanted = [finding("Opacity in the left mid zone.")]
    assert reader[0](thorax[0], changed(thorax, "left mid zone", 0.2), wanted, [], thorax[1])[0]["done"]
    assert not reader[0](thorax[0], thorax[0], wanted, [], {})[0]["done"], "nothing could be read"


def test_a_normal_chest_is_less_abnormal_than_before(thorax, reader):
    (row,) = reader[0](thorax[0], thorax[0], [], [], thorax[1])
    assert (row["finding"], row["wanted"], row["done"]) == ("abnormal", False, True)
