import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.data.captions import report_prompt
from skiagraph.data.reports import parse_report
from skiagraph.errors import ReportError


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("No pleural effusion.", (), ("effusion",)),
        (
            "No pneumothorax, pleural effusion or focal consolidation.",
            (),
            ("pneumothorax", "effusion", "consolidation"),
        ),
        ("No change in the left effusion.", ("effusion",), ()),
        ("Cannot exclude pneumonia.", ("pneumonia",), ()),
        ("The effusion has resolved.", (), ("effusion",)),
        ("Pneumothorax is not seen.", (), ("pneumothorax",)),
        ("No effusion but there is cardiomegaly.", ("cardiomegaly",), ("effusion",)),
        ("The heart is mildly enlarged.", ("cardiomegaly",), ()),
        ("Heart size is normal. Lungs are clear.", (), ("cardiomegaly", "opacity", "consolidation")),
        ("Pulmonary oedema.", ("edema",), ()),
        ("Negative for pneumonia.", (), ("pneumonia",)),
    ],
)
def test_negation(text, present, absent):
    report = parse_report(text)
    assert (report.present(), report.absent()) == (present, absent)


@pytest.mark.parametrize(
    ("text", "side", "zones", "severity"),
    [
        ("Large right pleural effusion.", "right", (), "large"),
        ("Consolidation in the left lower lobe.", "left", ("lower",), None),
        ("RUL pneumonia", "right", ("upper",), None),
        ("Bibasilar atelectasis", "bilateral", ("lower",), None),
        ("Small left apical pneumothorax", "left", ("upper",), "small"),
        ("Left lingular opacity", "left", ("mid",), None),
    ],
)
def test_place_and_size(text, side, zones, severity):
    finding = parse_report(text).findings[0]
    assert (finding.side, finding.zones, finding.severity) == (side, zones, severity)


def test_side_of_a_list_applies_to_each():
    assert [f.side for f in parse_report("Bilateral effusions and atelectasis.").findings] == ["bilateral"] * 2


@pytest.mark.parametrize(
    ("text", "age", "group", "sex", "view"),
    [
        ("65-year-old man, PA view.", 65, "adult", "male", "PA"),
        ("3 month old girl. AP portable.", 0.25, "child", "female", "AP"),
        ("Portable chest, adult woman", None, "adult", "female", "AP"),
        ("Effusion.", None, None, None, None),
    ],
)
def test_patient_and_view(text, age, group, sex, view):
    r = parse_report(text)
    assert (r.age, r.age_group, r.sex, r.view) == (age, group, sex, view)


@pytest.mark.parametrize("text", ["", "  \n", None, 3])
def test_empty_reports_are_refused(text):
    with pytest.raises(ReportError, match="the report is empty"):
        parse_report(text)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=200).filter(str.strip))
def test_any_text_parses(text):
    parse_report(text)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (
            "Large right pleural effusion. Cardiomegaly. AP portable view of an adult.",
            "large right pleural effusion. cardiomegaly. AP view. adult",
        ),
        ("No acute disease.", "normal chest. clear lungs"),
        ("RLL pneumonia in a 4-year-old boy", "right lower pneumonia. child. male"),
        ("Hello.", ""),
    ],
)
def test_report_in_trained_words(text, prompt):
    assert report_prompt(parse_report(text)) == prompt
    if prompt:
        assert report_prompt(parse_report(prompt)) == prompt
