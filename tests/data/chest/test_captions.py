import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiagraph.data.captions import Fact, caption_text, compose
from skiagraph.data.chest.anatomy import REGIONS, SIDES, ZONES
from skiagraph.data.chest.captions import (
    DENSE,
    OPAQUE,
    WORDINGS,
    facts_in_crop,
    facts_of,
    facts_unmeasured,
    record_prompt,
    report_prompt,
    word,
    words,
)
from skiagraph.data.chest.labels import LABELS
from skiagraph.data.chest.measure import MEASURE_NAMES
from skiagraph.data.chest.reports import parse_report
from skiagraph.data.datasets import Record


def record(*labels, **more):
    values = {"view": "AP", "age": 60.0, "sex": "male", **more}
    return Record("d", Path("x.png"), "p", "train", frozenset(labels), **values)


def scores(**changes):
    """Nothing unusual, except for `changes`, whose names have _ for spaces."""
    return dict.fromkeys(MEASURE_NAMES, 1.0) | {name.replace("_", " "): value for name, value in changes.items()}


def keys(facts):
    return {f.key for f in facts}


def place(facts, key):
    return next((f.side, f.zone, f.region) for f in facts if f.key == key)


def test_patient_and_labels_are_facts():
    facts = facts_of(record("edema", "cardiomegaly"), scores())
    assert keys(facts) >= {"edema", "cardiomegaly", "adult", "view AP", "male"}
    assert place(facts, "cardiomegaly")[2] == "heart"
    assert keys(facts_of(record(age=3.0, sex=None, view=None), scores())) >= {"child"}


def test_without_lungs_only_labels_and_organs_are_facts():
    facts = facts_unmeasured(record("edema"))
    assert keys(facts) == {"edema", "adult", "view AP", "male", "shown", "shown heart"}


def test_a_measured_opacity_is_placed_and_gives_a_finding_its_place():
    facts = facts_of(record("pneumonia"), scores(density_right_lower_zone=OPAQUE + 0.1))
    expected = ("right", "lower", "right lower zone")
    assert place(facts, "opacity") == place(facts, "pneumonia") == expected
    assert "dense opacity" in keys(facts_of(record(), scores(density_left_mid_zone=DENSE + 0.1)))
    both = scores(density_right_lower_zone=3.0, density_left_upper_zone=3.0)
    assert place(facts_of(record("pneumonia"), both), "pneumonia") == ("bilateral", "", "lungs")


@pytest.mark.parametrize(
    ("lean", "key", "side"),
    [
        (1.0, "effusion", "right"),
        (-1.0, "effusion", "left"),
        (0.1, "effusion", "bilateral"),
        (2.5, "large effusion", "right"),
    ],
)
def test_an_effusion_lies_on_the_side_of_the_denser_higher_base(lean, key, side):
    measured = scores(base_density_difference=lean, base_height_difference=lean, area_ratio=-lean)
    assert place(facts_of(record("effusion"), measured), key)[0] == side


def test_a_placed_finding_is_sometimes_named_alone_and_keeps_its_region():
    placed = Fact("pneumonia", side="right", zone="lower", region="right lower zone")
    assert words(placed)[-1] == "pneumonia"
    assert all("right" in text for text in words(placed)[:-1])
    phrases = [compose([placed], random.Random(seed), 0.0, words)[0] for seed in range(40)]
    assert {p.region for p in phrases if p.text == "pneumonia"} == {"right lower zone"}
    assert "pleural effusion" not in words(Fact("effusion", side="bilateral", region="lungs"))


def test_a_readers_normal_outweighs_measures():
    wide = scores(density_right_lower_zone=9.0, heart_width=9.0)
    assert not keys(facts_of(record("normal"), wide)) & {"opacity", "dense opacity", "cardiomegaly"}
    assert "cardiomegaly" in keys(facts_of(record(), scores(heart_width=9.0)))
    assert "cardiomegaly" not in keys(facts_of(record(), wide))


def test_crops_speak_of_what_they_show():
    facts = [Fact("adult"), Fact("view AP"), Fact("opacity", "left", "lower", "left lower zone")]
    seen = facts_in_crop(facts, {"left lung": 0.9, "left lower zone": 0.9, "right lung": 0.1, "heart": 0.6})
    assert keys(seen) == {"crop", "shown", "shown heart", "shown zone", "adult", "opacity"}
    assert {f.side for f in seen if f.key == "shown"} == {"left"}
    assert "opacity" not in keys(facts_in_crop(facts, {"left lower zone": 0.3}))


@given(
    st.sampled_from(sorted(WORDINGS)), st.sampled_from(["", "bilateral", *SIDES]), st.sampled_from(["", *ZONES]),
    st.integers(0, 3),
)  # fmt: skip
def test_every_wording_reads_as_words(key, side, zone, index):
    wording = WORDINGS[key][index % len(WORDINGS[key])]
    text = word(Fact(key, side=side, zone=zone), wording)
    assert text == " ".join(text.split())
    assert not set("{}") & set(text)
    assert not text.endswith((" in the", " on the", " in", " the"))


@given(st.integers(0, 2**16), st.floats(0, 0.9))
def test_compose_drops_and_shuffles_but_keeps_what_must_stay(seed, dropout):
    facts = [
        Fact("crop", keep=1.0),
        Fact("edema", region="lungs"),
        Fact("adult"),
        Fact("cardiomegaly", region="heart"),
    ]
    phrases = compose(facts, random.Random(seed), dropout, words)
    assert any(p.text in WORDINGS["crop"] for p in phrases)
    assert len(phrases) <= len(facts)
    assert {p.region for p in phrases} <= {None, *REGIONS}
    assert phrases == compose(facts, random.Random(seed), dropout, words)
    assert len(compose(facts, random.Random(seed), 0.0, words)) == len(facts)


def test_every_label_has_wordings_and_a_prompt_that_parses_back():
    for label in LABELS:
        text = record_prompt(record(label))
        found = parse_report(text)
        assert (found.view, found.sex, found.age_group) == ("AP", "male", "adult")
        assert found.normal if label == "normal" else label in found.present(), text


@pytest.mark.parametrize(
    ("report", "prompt"),
    [
        (
            "Large right pleural effusion. Cardiomegaly. AP portable view of an adult.",
            "large right pleural effusion. cardiomegaly. AP view. adult",
        ),
        ("No pleural effusion or pneumothorax. Lungs are clear.", "normal chest. clear lungs"),
        ("Left lower lobe pneumonia. PA view of a 4-year-old girl.", "left lower pneumonia. PA view. child. female"),
        ("Bilateral airspace opacities.", "bilateral opacities"),
    ],
)
def test_reports_in_the_models_words(report, prompt):
    assert report_prompt(parse_report(report)) == prompt


def test_caption_text_joins_phrases():
    assert caption_text(compose([Fact("edema")] * 2, random.Random(0), 0.0, words)).count(". ") == 1
