"""What a study says: paired differences, a plain sentence for each question, and the page that shows both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skiagraph.engine.evaluation_page import Section, write_page
from skiagraph.evaluation.result import MetricResult
from skiagraph.evaluation.statistics import grouped_mean, holm, paired_difference
from skiagraph.files import write_json

LEVEL = 0.05
"""P-value, corrected for the number of comparisons (Holm), below which a difference counts."""

MARGIN = 0.005
"""Dice by which nobody minds: an interval within it says that nothing is gained."""

HELPS, HARMS, NOTHING, UNKNOWN = "helps", "harms", "does not help", "not enough cases to tell"

Scores = Mapping[str, Mapping[str, np.ndarray]]
"""Dice (seeds, n) by arm and by held-out set."""


class ArmLike(Protocol):
    """What answers need to know of an arm; see `skiagraph.engine.study.Arm`."""

    real: int
    made: str
    share: float
    control: str

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Answer:
    """`arm` against another on a held-out set: `verdict` is one of the four words above, `p` corrected (Holm)."""

    arm: str
    against: str
    tested_on: str
    difference: MetricResult
    p: float
    verdict: str
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {**vars(self), "difference": self.difference.to_dict()}


def answers(
    arms: Sequence[ArmLike], scores: Scores, patients: Mapping[str, np.ndarray], validation: str
) -> list[Answer]:
    """Every synthetic set's best share beside real cases alone and beside the controls, on every set but validation.

    Args:
        arms: all that were trained.
        scores: of each.
        patients: the patient of each case, by held-out set.
        validation: the held-out set by which shares are chosen, and on which nothing is answered.
    """
    tests = [name for name in patients if name != validation]
    asked = [(arm, other, test) for arm, other in _questions(arms, scores, validation) for test in tests]
    found = [
        paired_difference("Dice", scores[arm.name][test], scores[other.name][test], patients[test], "higher")
        for arm, other, test in asked
    ]
    corrected = holm(np.array([difference.details["p"] for difference in found]))
    return [
        _answer(arm, other, test, difference, float(p), scores)
        for (arm, other, test), difference, p in zip(asked, found, corrected, strict=True)
    ]


def _questions(arms: Sequence[ArmLike], scores: Scores, validation: str) -> Iterator[tuple[ArmLike, ArmLike]]:
    counts = sorted({arm.real for arm in arms if arm.real})
    for count in counts:
        same = [arm for arm in arms if arm.real == count]
        others = [arm for arm in same if not arm.made]
        for made in dict.fromkeys(arm.made for arm in same if arm.made):
            mixed = [arm for arm in same if arm.made == made]
            best = max(mixed, key=lambda arm: float(scores[arm.name][validation].mean()))
            yield from ((best, other) for other in others)
    most = next(arm for arm in arms if arm.real == counts[-1] and not (arm.made or arm.control))
    yield from ((arm, most) for arm in arms if not arm.real)


def verdict(difference: MetricResult, p: float) -> str:
    """In a word what a paired difference says, whose corrected p-value is `p`."""
    if p < LEVEL and difference.low > 0:
        return HELPS
    if p < LEVEL and difference.high < 0:
        return HARMS
    return NOTHING if difference.low > -MARGIN and difference.high < MARGIN else UNKNOWN


def _answer(arm: ArmLike, other: ArmLike, test: str, difference: MetricResult, p: float, scores: Scores) -> Answer:
    word = verdict(difference, p)
    was, now = (scores[a.name][test].mean() for a in (other, arm))
    said = {
        HELPS: f"helps by {difference.value:.3f} of Dice", HARMS: f"harms by {-difference.value:.3f} of Dice",
        NOTHING: f"does not help: less than {MARGIN} of Dice either way", UNKNOWN: "cannot be told from so few cases",
    }[word]  # fmt: skip
    sentence = (
        f"On {test}, {arm.name} beside {other.name} {said} ({difference.low:+.3f} to {difference.high:+.3f}; "
        f"{was:.3f} to {now:.3f})."
    )
    return Answer(arm.name, other.name, test, difference, p, word, sentence)


def write_study(
    output: Path, data: str, found: Sequence[Answer], scores: Scores, patients: Mapping[str, np.ndarray],
    seconds: Mapping[str, float],
) -> None:  # fmt: skip
    """Write `results.json` and `report.html` of a study."""
    means = {
        test: [grouped_mean(arm, of_arm[test], patients[test], "higher") for arm, of_arm in scores.items()]
        for test in patients
    }
    rows = {test: [result.to_dict() for result in results] for test, results in means.items()}
    write_json(
        output / "results.json",
        {"data": data, "answers": [answer.to_dict() for answer in found], "dice": rows, "seconds": dict(seconds)},
    )
    differences = [
        MetricResult(
            f"{a.arm} beside {a.against}, on {a.tested_on}: {a.verdict}", a.difference.value, a.difference.low,
            a.difference.high, a.difference.n, "higher", floor=0.0,
        )
        for a in found
    ]  # fmt: skip
    sections = [
        Section(
            "Differences of Dice",
            "Paired by case and seed, over patients and seeds together; a difference counts only if its p-value, "
            "corrected for the number of rows (Holm), is below 0.05. Shares were chosen on validation patients.",
            differences,
        ),
        *(Section(f"Dice on {test}", "Means over cases and seeds.", results) for test, results in means.items()),
    ]
    write_page(
        output / "report.html", {"data": data}, {"data": sum(map(len, patients.values()))}, sections, {}, {},
        title="Does synthetic data help?", sentences=[answer.sentence for answer in found],
    )  # fmt: skip
