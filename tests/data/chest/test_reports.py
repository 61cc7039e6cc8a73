import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.data.chest.captions import report_prompt
from skiagraph.data.chest.reports import parse_report
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
        ("History of pneumonia.", (), ()),
        ("INDICATION: pneumonia. FINDINGS: Normal heart size.", (), ("cardiomegaly",)),
        ("Scarring from prior pneumonia.", ("scarring",), ()),
        ("Old rib fracture.", ("fracture",), ()),
        ("Status post sternotomy.", ("surgery",), ()),
        ("The chest tube has been removed.", (), ("device",)),
        ("Document resolution of the right opacity.", ("opacity",), ()),
        ("Partially resolved edema.", ("edema",), ()),
        ("No effusion, heart is enlarged.", ("cardiomegaly",), ("effusion",)),
        ("No effusion and the heart is enlarged.", ("cardiomegaly",), ("effusion",)),
        ("No pneumothorax, effusion or edema is seen.", (), ("pneumothorax", "effusion", "edema")),
        ("Cardiomegaly, effusion is not seen.", ("cardiomegaly",), ("effusion",)),
        ("Effusion and edema are not seen.", (), ("effusion", "edema")),
        ("No effusion, pneumonia cannot be excluded.", ("pneumonia",), ("effusion",)),
        ("No opacity which would suggest pneumonia.", (), ("opacity", "pneumonia")),
        ("The heart is not enlarged.", (), ("cardiomegaly",)),
        ("There isn't any effusion.", (), ("effusion",)),
        ("Effusion: none. Heart: enlarged.", ("cardiomegaly",), ("effusion",)),
        ("No pneumothorax\nLeft effusion", ("effusion",), ("pneumothorax",)),
        ("No pleural\neffusion", (), ("effusion",)),
        ("NO PLEURAL\nEFFUSION", (), ("effusion",)),
        ("Enlarged heart and effusion.", ("cardiomegaly", "effusion"), ()),
        ("Interstitial markings are normal.", (), ("interstitial",)),
        ("CT is more sensitive for nodules.", (), ()),
        ("Costophrenic angles are sharp.", (), ("effusion",)),
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
        ("Opacities in the lower lobes", "bilateral", ("lower",), None),
        ("Effusions, right greater than left", "bilateral", (), None),
    ],
)
def test_place_and_size(text, side, zones, severity):
    finding = parse_report(text).findings[0]
    assert (finding.side, finding.zones, finding.severity) == (side, zones, severity)


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("Bilateral effusions and atelectasis.", ["bilateral"] * 2),
        ("Atelectasis and infiltrate of the right upper lobe.", ["right"] * 2),
        ("Consolidation in the left lower lobe and right effusion.", ["left", "right"]),
        ("Nodular opacity in the left lung and a mass.", ["left", "left", None]),
        ("Right basilar opacity, which may represent pneumonia.", ["right", "right"]),
    ],
)
def test_sides_of_lists(text, sides):
    found = [f.side for f in parse_report(text).findings]
    assert found[:2] == sides[:2]


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
        ("A study of 5 years ago. The prior film is 3 days old.", None, None, None, None),
        ("PORTABLE CHEST OF A 56 Y.O. F", 56, "adult", "female", "AP"),
        ("Increased AP diameter.", None, None, None, None),
        ("p.a. view", None, None, None, "PA"),
    ],
)
def test_patient_and_view(text, age, group, sex, view):
    r = parse_report(text)
    assert (r.age, r.age_group, r.sex, r.view) == (age, group, sex, view)


def test_what_is_not_understood_is_named():
    report = parse_report("Small left effusion. Der Rest ist unklar. PA and lateral views. Trauma to the soul.")
    assert report.unrecognised == ("der rest ist unklar", "trauma to the soul")
    assert report.present() == ("effusion",)


@pytest.mark.parametrize(
    "text",
    [
        "Kein Pneumothorax. Herz normal groß. Erguss links. Keine Infiltration.",
        "Pas de pneumothorax. Épanchement pleural à droite avec infiltration.",
        "Lorem ipsum dolor sit amet. Colourless green ideas sleep furiously.",
        "qwertz uiop; asdf!",
    ],
)
def test_other_languages_and_nonsense_are_unrecognised(text):
    report = parse_report(text)
    assert report.findings == ()
    assert not report.normal
    assert len(report.unrecognised) == len([s for s in re.split(r"[.;!]", text) if s.strip()])


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Normal chest.", True),
        ("No acute cardiopulmonary abnormality.", True),
        ("No effusion. Heart size is normal.", True),
        ("No active disease. Xyzzy.", True),
        ("No effusion. Xyzzy.", False),
        ("No acute bony abnormality.", False),
        ("No acute disease. Enlarged pulmonary arteries.", False),
        ("Normal chest. Rib fracture.", False),
        ("No acute disease. Possible mild edema.", False),
        ("Lungs are not clear.", False),
        ("This is not a normal chest.", False),
        ("Compared to the previous normal chest radiograph.", False),
        ("Heart is not normal.", False),
        ("History of pneumonia.", False),
        ("Compared to 3 days ago.", False),
        ("PA and lateral views.", False),
        ("Left pleural effusion has not resolved.", False),
    ],
)
def test_normal_only_where_it_is_said(text, normal):
    assert parse_report(text).normal == normal


@pytest.mark.parametrize(
    ("text", "abnormal"),
    [
        ("No effusion. Widened mediastinum.", ("widened mediastinum",)),
        ("Pericardial effusion.", ("pericardial effusion",)),
        ("No mediastinal shift. No foreign body.", ()),
        ("Streaky opacity.", ()),
        ("History of heart disease.", ()),
    ],
)
def test_abnormal_things_without_a_name(text, abnormal):
    report = parse_report(text)
    assert report.abnormal == abnormal
    assert set(report.abnormal) <= set(report.unrecognised)


STATEMENTS = {
    "effusion": "Small left pleural effusion",
    "cardiomegaly": "The heart is enlarged",
    "pneumonia": "Right lower lobe pneumonia",
    "pneumothorax": "Left apical pneumothorax",
    "edema": "Moderate pulmonary edema",
    "fracture": "Healed fracture of a right rib",
    "device": "Endotracheal tube in good position",
    "hernia": "Large hiatal hernia",
}
KEEP = [
    "{}.",
    "{}",
    "{}!",
    "IMPRESSION: {}.",
    "1. {}. 2.",
    "{}, compared to 3 days ago.",
    "{}. Comparison: 3 days ago.",
    "{}. Compared to 12/05/2011.",
    "{} has not resolved.",
    "{}; stable since 2 weeks ago.",
    "History of colon cancer. {}.",
    "Indication: pneumonia, rule out effusion. Findings: {}.",
    "{}. Status post tuberculosis.",
    "No nodule. {}.",
    "No consolidation, but {}.",
    "{}. No acute disease.",
    "{}. The mediastinum is normal.",
]
HEDGE = [
    "Possible {}.",
    "Possibly {}.",
    "May represent {}.",
    "{} cannot be excluded.",
    "{} is possible.",
    "Suspicious for {}.",
    "{}?",
]
DENY = [
    "No {}.",
    "Without {}.",
    "Negative for {}.",
    "There is no evidence of {}.",
    "{} is no longer seen.",
    "{} has resolved.",
    "No nodule, {} or cavity.",
    "Nodule or {} is not identified.",
    "{}: none.",
]
PAST = ["History of {}.", "Status post {}.", "Prior {}.", "Indication: {}."]
NAMES = ["effusion", "pneumonia", "pneumothorax", "consolidation", "edema", "atelectasis"]


@pytest.mark.parametrize("frame", KEEP)
@pytest.mark.parametrize("name", STATEMENTS)
def test_what_stands_around_a_statement_does_not_take_it_away(name, frame):
    alone = parse_report(STATEMENTS[name]).findings[0]
    report = parse_report(frame.format(STATEMENTS[name]))
    assert report.present() == (name,)
    found = next(f for f in report.findings if f.present)
    for field in ("uncertain", "side", "zones", "severity"):
        assert getattr(found, field) == getattr(alone, field)
    assert (report.age, report.age_group, report.normal, report.unrecognised) == (None, None, False, ())


@pytest.mark.parametrize("frame", HEDGE)
@pytest.mark.parametrize("name", NAMES)
def test_doubts_leave_it_present_and_uncertain(name, frame):
    report = parse_report(frame.format(name).capitalize())
    assert report.present() == (name,)
    assert report.findings[0].uncertain
    assert not report.normal


@pytest.mark.parametrize("frame", DENY)
@pytest.mark.parametrize("name", NAMES)
def test_denials_take_it_away(name, frame):
    report = parse_report(frame.format(name).capitalize())
    assert report.present() == ()
    assert name in report.absent()


@pytest.mark.parametrize("frame", PAST)
@pytest.mark.parametrize("name", NAMES)
def test_the_past_is_neither_present_nor_absent(name, frame):
    report = parse_report(frame.format(name).capitalize())
    assert (report.present(), report.absent(), report.normal) == ((), (), False)
    assert all(f.history for f in report.findings)


@settings(max_examples=50, deadline=None)
@given(st.permutations(list(STATEMENTS)), st.sets(st.sampled_from(sorted(set(NAMES) & set(STATEMENTS)))))
def test_order_capitals_and_lines_change_nothing_but_the_order(order, denied):
    sentences = [f"No {STATEMENTS[n].lower()}." if n in denied else f"{STATEMENTS[n]}." for n in order]
    bare = [s.rstrip(".") for s in sentences]
    texts = [" ".join(sentences), " ".join(sentences).upper(), "\n".join(sentences), "\n".join(bare), "; ".join(bare)]
    for text in [*texts, " ".join(sentences).lower(), "\n\n".join(bare).upper()]:
        report = parse_report(text)
        assert report.present() == tuple(n for n in order if n not in denied)
        assert set(report.absent()) == denied


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(STATEMENTS)), st.integers(1, 99), st.sampled_from(["days", "weeks", "months", "years"]))
def test_dates_are_no_ages(name, number, unit):
    for frame in ("{s}. Compared to {n} {u} ago.", "{s}, new since {n} {u}.", "{n} {u} after surgery: {s}."):
        report = parse_report(frame.format(s=STATEMENTS[name], n=number, u=unit))
        assert (report.age, report.age_group) == (None, None)
        assert name in report.present()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(sorted(STATEMENTS.values())), min_size=1, max_size=4, unique=True))
def test_a_report_says_what_its_sentences_say(chosen):
    together = parse_report(". ".join(chosen))
    apart = [f for text in chosen for f in parse_report(text).findings]
    assert together.findings == tuple(apart)


@pytest.mark.parametrize("text", ["", "  \n", None, 3])
def test_empty_reports_are_refused(text):
    with pytest.raises(ReportError, match="the report is empty"):
        parse_report(text)


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=200).filter(str.strip))
def test_any_text_parses(text):
    parse_report(text)


def test_a_very_long_sentence_takes_no_more_than_its_share():
    once = len(parse_report("Degenerative x " * 40).findings)
    assert len(parse_report("Degenerative x " * 2000).findings) == 50 * once


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
        ("Low lung volumes. Volume loss in the left lung.", "low lung volumes. volume loss in the left lung"),
        ("No acute disease. Pericardial effusion.", ""),
    ],
)
def test_report_in_trained_words(text, prompt):
    assert report_prompt(parse_report(text)) == prompt
    if prompt:
        assert report_prompt(parse_report(prompt)) == prompt
