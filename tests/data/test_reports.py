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
        ("Left pleural effusion has not resolved.", ("effusion",), ()),
        ("The effusion has not completely resolved.", ("effusion",), ()),
        ("Pneumothorax is no longer present.", (), ("pneumothorax",)),
        ("No consolidation with stable cardiomegaly.", ("cardiomegaly",), ("consolidation",)),
        ("History of pneumonia.", (), ("pneumonia",)),
        ("Possible right lower lobe pneumonia.", ("pneumonia",), ()),
        ("Tuberculosis with cavitation.", ("tuberculosis", "cavity"), ()),
        ("Healed rib fractures. Median sternotomy wires.", ("fracture", "device"), ()),
        ("Degenerative changes of the spine. Tortuous aorta.", ("spine", "aorta"), ()),
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
        ("Compared to 3 days ago the effusion is smaller.", None, None, None, None),
        ("Follow-up in 6 months. 2 weeks after surgery.", None, None, None, None),
        ("A patient aged 71, AP.", 71, "adult", None, "AP"),
        ("45 year female.", 45, "adult", "female", None),
    ],
)
def test_patient_and_view(text, age, group, sex, view):
    r = parse_report(text)
    assert (r.age, r.age_group, r.sex, r.view) == (age, group, sex, view)


def test_what_is_not_understood_is_named():
    report = parse_report("Small left effusion. Der Rest ist unklar. PA and lateral views. Trauma to the soul.")
    assert report.unrecognised == ("der rest ist unklar", "trauma to the soul")


STATEMENTS = {
    "effusion": "Small left pleural effusion",
    "cardiomegaly": "The heart is enlarged",
    "pneumonia": "Right lower lobe pneumonia",
    "pneumothorax": "Left apical pneumothorax",
}


@pytest.mark.parametrize(
    "frame", ["{}.", "{}, compared to 3 days ago.", "Possibly {}.", "{} has not resolved.", "IMPRESSION: {}!"]
)
@pytest.mark.parametrize("name", STATEMENTS)
def test_what_stands_around_a_statement_does_not_take_it_away(name, frame):
    report = parse_report(frame.format(STATEMENTS[name]))
    assert report.present() == (name,)
    assert report.age is None
    assert report.findings[0].uncertain == frame.startswith("Possibly")


@pytest.mark.parametrize(
    "frame",
    ["No {}.", "Without {}.", "Negative for {}.", "History of {}.", "{} is no longer seen.", "{} has resolved."],
)
@pytest.mark.parametrize("name", ["effusion", "pneumonia", "pneumothorax", "consolidation"])
def test_denials_take_it_away(name, frame):
    report = parse_report(frame.format(name).capitalize())
    assert (report.present(), report.absent()) == ((), (name,))


@settings(max_examples=50, deadline=None)
@given(st.permutations(list(STATEMENTS)), st.sets(st.sampled_from(list(STATEMENTS))))
def test_order_and_capitals_change_nothing_but_the_order(order, denied):
    sentences = [
        f"No {STATEMENTS[n].lower()}." if n in denied and n != "cardiomegaly" else f"{STATEMENTS[n]}." for n in order
    ]
    expected = {n for n in order if n not in denied or n == "cardiomegaly"}
    for text in (" ".join(sentences), " ".join(sentences).upper(), "\n".join(sentences)):
        assert set(parse_report(text).present()) == expected


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
        ("No pneumothorax. Healed rib fracture.", ""),
        ("Kein Erguss, keine Stauung. Herz nicht verbreitert.", ""),
        ("No effusion. Beidseits belüftete Lungen.", ""),
        ("No effusion. No pneumothorax. Compared to the study of 3 days ago.", "normal chest. clear lungs"),
    ],
)
def test_report_in_trained_words(text, prompt):
    assert report_prompt(parse_report(text)) == prompt
    if prompt:
        assert report_prompt(parse_report(prompt)) == prompt
