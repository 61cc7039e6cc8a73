"""Reports chosen from a bank: nearest to the target by brute force, and better than random draws."""

import random
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.data.chest.reports import parse_report
from skiagraph.engine.retrieval import facts_of_report, retrieve
from skiagraph.errors import ReportError

BANK = [
    "Cardiomegaly. PA view.", "Large right pleural effusion.", "Left lower lobe pneumonia in a child.",
    "Normal chest. PA view.", "No acute disease. Female, 54 years old.", "Right pneumothorax. AP view.",
]  # fmt: skip


def shares(reports, names):
    stated = [facts_of_report(parse_report(r)) for r in reports]
    return np.array([[n in facts for n in names] for facts in stated]).mean(axis=0)


def distance(found, have=()):
    names = list(found.target)
    wanted = np.array(list(found.target.values()))
    return float(np.square(shares([*have, *found.reports], names) - wanted).sum())


def test_a_report_is_the_facts_it_states():
    stated = facts_of_report(parse_report("Left lower lobe pneumonia. No effusion. PA view of a 54-year-old woman."))
    assert stated == {"pneumonia", "left pneumonia", "left lower pneumonia", "PA", "adult", "female"}
    assert "normal" in facts_of_report(parse_report("Normal chest."))


def test_one_choice_is_the_nearest_of_all():
    for report in BANK:
        assert retrieve(BANK, 1, like=[report]).reports == (report,)


def test_choices_are_about_as_near_as_the_best_of_all_sets():
    target = [BANK[0], BANK[0], BANK[1], BANK[3], BANK[5]]
    found = retrieve(BANK, 4, like=target)
    names = list(found.target)
    wanted = np.array(list(found.target.values()))
    best = min(np.square(shares(c, names) - wanted).sum() for c in combinations_with_replacement(BANK, 4))
    assert distance(found) <= 1.5 * best


def test_what_one_has_is_completed():
    have = ["Cardiomegaly. PA view."] * 10
    found = retrieve(BANK, 20, have=have)
    assert "Cardiomegaly. PA view." not in found.reports
    assert found.before["cardiomegaly"] == 1.0
    gap = {name: abs(found.after[name] - wanted) for name, wanted in found.target.items()}
    assert gap["cardiomegaly"] < abs(10 / 30 - 1 / 6) + 1e-4
    assert max(gap.values()) < 0.2
    assert distance(found, have) == pytest.approx(sum(g**2 for g in gap.values()), abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(BANK), min_size=1, max_size=12), st.integers(0, 100))
def test_choices_are_nearer_to_the_target_than_random_ones(target, seed):
    found = retrieve(BANK, 30, like=target)
    names, rng = list(found.target), random.Random(seed)
    wanted = np.array(list(found.target.values()))
    drawn = np.mean([np.square(shares(rng.choices(target, k=30), names) - wanted).sum() for _ in range(5)])
    assert distance(found) <= drawn + 1e-6


def test_equally_good_reports_take_turns():
    same = ["Cardiomegaly.", "The heart is enlarged.", "Enlarged heart."]
    chosen = retrieve(same, 6).reports
    assert all(chosen.count(report) == 2 for report in same)


def test_what_nobody_understands_is_passed_over_or_refused():
    assert set(retrieve([*BANK, "Lorem ipsum dolor."], 12).reports) <= set(BANK)
    with pytest.raises(ReportError, match="any report of the bank"):
        retrieve(["Lorem ipsum dolor."], 2)
    with pytest.raises(ReportError, match="any report of the target"):
        retrieve(BANK, 2, like=["Lorem ipsum dolor."])
    with pytest.raises(ReportError, match="at least one"):
        retrieve(BANK, 0)
