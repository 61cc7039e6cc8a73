"""What is said of paired scores: helps, harms, does not help, cannot be told."""

import json
from pathlib import Path

import numpy as np
import pytest

from skiagraph.data.datasets import Record
from skiagraph.engine.study import Arm, StudyConfig
from skiagraph.engine.study_answers import HARMS, HELPS, NOTHING, UNKNOWN, Judged, answers, write_study
from skiagraph.engine.study_tasks import Cases, Segmenting

HELD_OUT = {
    name: Cases((None, None), [Record("mine", Path(f"{i}.png"), f"p{i}", "test") for i in range(40)])
    for name in ("validation", "test", "elsewhere")
}
TASK = Segmenting(StudyConfig("mine"), 1)
ARMS = [
    Arm(10), Arm(10, control="augmented more"), Arm(10, "pairs", 0.0), Arm(10, "pairs", 0.5), Arm(0, "pairs")
]  # fmt: skip


def judged(gain, noise, *, best=0.5, held_out=HELD_OUT):
    """Dice of three seeds on 40 cases; mixes gain so much over real ones, and validation likes the share `best`."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.8, 0.95, 40)
    found = {}
    for arm in ARMS:
        for name in HELD_OUT:
            own = base + (gain if arm.made else 0) + rng.normal(0, noise, (3, 40))
            liked = 0.02 if name == "validation" and arm.share == best and arm.made and arm.real else 0
            found.setdefault(arm.name, {})[name] = own + liked
    return Judged(TASK, held_out, found)


@pytest.mark.parametrize(
    ("gain", "noise", "verdict", "words"),
    [
        (0.03, 0.01, HELPS, "helps by 0.0"),
        (-0.03, 0.01, HARMS, "harms by 0.0"),
        (0.0, 0.003, NOTHING, "does not help"),
        (0.004, 0.2, UNKNOWN, "cannot be told"),
    ],
)
def test_the_sentence_agrees_with_the_difference(gain, noise, verdict, words):
    found = answers(ARMS, judged(gain, noise), "validation")
    first = next(a for a in found if a.against == "real 10" and a.tested_on == "test")
    assert first.verdict == verdict
    assert words in first.sentence
    assert f"{first.difference.low:+.3f} to {first.difference.high:+.3f}" in first.sentence


@pytest.mark.parametrize(("best", "arm"), [(0.0, "real 10 + pairs"), (0.5, "real 10 + pairs, 0.5 of a batch")])
def test_shares_are_chosen_on_validation_and_answered_elsewhere(best, arm):
    found = answers(ARMS, judged(0.0, 0.01, best=best), "validation")
    assert {a.tested_on for a in found} == {"test", "elsewhere"}
    mixed = [a for a in found if a.arm != "pairs alone"]
    assert {a.arm for a in mixed} == {arm}
    assert {a.against for a in mixed} == {"real 10", "real 10 + augmented more"}
    assert {a.against for a in found if a.arm == "pairs alone"} == {"real 10"}


def test_many_questions_make_each_answer_harder():
    two = {name: HELD_OUT[name] for name in ("validation", "test")}
    few = answers(ARMS, judged(0.012, 0.05, held_out=two), "validation")
    many = answers(ARMS, judged(0.012, 0.05), "validation")
    same = [(a.p, b.p) for a in few for b in many if (a.arm, a.against, a.tested_on) == (b.arm, b.against, b.tested_on)]
    assert all(p <= q for p, q in same)


def test_page_and_table_say_the_same(tmp_path):
    found = answers(ARMS, judged(0.03, 0.01), "validation")
    write_study(
        tmp_path, "mine", found, judged(0.03, 0.01), {"real 10 + pairs": {"seconds": 3.0, "real": 10, "synthetic": 7}}
    )
    stored = json.loads((tmp_path / "results.json").read_text())
    page = (tmp_path / "report.html").read_text()
    assert "real 10 + pairs, 7." in page
    assert [a["sentence"] for a in stored["answers"]] == [a.sentence for a in found]
    assert all(a.sentence in page for a in found)
    assert "Does synthetic data help?" in page
    assert {r["name"] for r in stored["means"]["test"]} == {arm.name for arm in ARMS}
