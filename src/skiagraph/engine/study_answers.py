"""What a study says: paired differences, a plain sentence for each question, and the page that shows both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skiagraph.engine.evaluation_page import Section, write_page
from skiagraph.engine.study_tasks import Cases, StudyTask
from skiagraph.evaluation.result import MetricResult
from skiagraph.evaluation.statistics import Statistic, grouped_statistic, holm
from skiagraph.files import write_json

LEVEL = 0.05
"""P-value, corrected for the number of comparisons (Holm), below which a difference counts."""

HELPS, HARMS, NOTHING, UNKNOWN = "helps", "harms", "does not help", "not enough cases to tell"

Scores = Mapping[str, Mapping[str, np.ndarray]]
"""What models said of cases, (seeds, n, ...), by arm and by held-out set."""


@dataclass(frozen=True)
class Arm:
    """One way of training: so many `real` cases, a synthetic set `made` with its `share` of a batch, or a `control`."""

    real: int
    made: str = ""
    share: float = 0.0
    control: str = ""

    @property
    def name(self) -> str:
        """As tables call it."""
        if not self.real:
            return f"{self.made} alone"
        share = f", {self.share:g} of a batch" if self.share else ""
        return f"real {self.real}" + "".join(f" + {extra}{share}" for extra in (self.made, self.control) if extra)


class Judged:
    """A study's scores, as statistics of weighted cases."""

    def __init__(self, task: StudyTask, held_out: Mapping[str, Cases], scores: Scores) -> None:
        self.task, self.held_out, self.scores = task, held_out, scores

    def statistic(self, arm: str, test: str) -> Statistic:
        """Of an arm on a held-out set."""
        return self.task.statistic(self.scores[arm][test], self.held_out[test])

    def value(self, arm: str, test: str) -> float:
        """Mean over seeds, of all cases."""
        return float(self.statistic(arm, test)(np.ones(len(self.held_out[test].patients))).mean())

    def result(self, arm: str, test: str) -> MetricResult:
        """Value and interval, named after the arm."""
        return grouped_statistic(arm, self.statistic(arm, test), self.held_out[test].patients, "higher")

    def difference(self, arm: str, other: str, test: str) -> MetricResult:
        """Of two arms, on the same cases and seeds."""
        a, b = self.statistic(arm, test), self.statistic(other, test)
        name = f"{self.task.metric}, difference"
        return grouped_statistic(name, lambda w: a(w) - b(w), self.held_out[test].patients, "higher")


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


def answers(arms: Sequence[Arm], judged: Judged, validation: str) -> list[Answer]:
    """Every synthetic set's best share beside real cases alone and beside the controls, on every set but validation.

    Args:
        arms: all that were trained.
        judged: the scores of each.
        validation: the held-out set by which shares are chosen, and on which nothing is answered.
    """
    tests = [name for name in judged.held_out if name != validation]
    asked = [(arm, other, test) for arm, other in _questions(arms, judged, validation) for test in tests]
    found = [judged.difference(arm.name, other.name, test) for arm, other, test in asked]
    corrected = holm(np.array([difference.details["p"] for difference in found]))
    return [
        _answer(arm, other, test, difference, float(p), judged)
        for (arm, other, test), difference, p in zip(asked, found, corrected, strict=True)
    ]


def _questions(arms: Sequence[Arm], judged: Judged, validation: str) -> Iterator[tuple[Arm, Arm]]:
    counts = sorted({arm.real for arm in arms if arm.real})
    for count in counts:
        same = [arm for arm in arms if arm.real == count]
        others = [arm for arm in same if not arm.made]
        for made in dict.fromkeys(arm.made for arm in same if arm.made):
            mixed = [arm for arm in same if arm.made == made]
            best = max(mixed, key=lambda arm: judged.value(arm.name, validation))
            yield from ((best, other) for other in others)
    most = next(arm for arm in arms if arm.real == counts[-1] and not (arm.made or arm.control))
    yield from ((arm, most) for arm in arms if not arm.real)


def verdict(difference: MetricResult, p: float, margin: float) -> str:
    """In a word what a paired difference says, whose corrected p-value is `p`; within `margin` nothing is gained."""
    if p < LEVEL and difference.low > 0:
        return HELPS
    if p < LEVEL and difference.high < 0:
        return HARMS
    return NOTHING if difference.low > -margin and difference.high < margin else UNKNOWN


def _answer(
    arm: Arm, other: Arm, test: str, difference: MetricResult, p: float, judged: Judged
) -> Answer:  # fmt: skip
    metric, margin = judged.task.metric, judged.task.margin
    word = verdict(difference, p, margin)
    was, now = (judged.value(a.name, test) for a in (other, arm))
    said = {
        HELPS: f"helps by {difference.value:.3f} of {metric}", HARMS: f"harms by {-difference.value:.3f} of {metric}",
        NOTHING: f"does not help: less than {margin} of {metric} either way",
        UNKNOWN: "cannot be told from so few cases",
    }[word]  # fmt: skip
    sentence = (
        f"On {test}, {arm.name} beside {other.name} {said} ({difference.low:+.3f} to {difference.high:+.3f}; "
        f"{was:.3f} to {now:.3f})."
    )
    return Answer(arm.name, other.name, test, difference, p, word, sentence)


def write_study(
    output: Path, data: str, found: Sequence[Answer], judged: Judged, cost: Mapping[str, Mapping[str, float]]
) -> None:  # fmt: skip
    """Write `results.json` and `report.html` of a study."""
    metric = judged.task.metric
    means = {test: [judged.result(arm, test) for arm in judged.scores] for test in judged.held_out}
    rows = {test: [result.to_dict() for result in results] for test, results in means.items()}
    said = [answer.to_dict() for answer in found]
    write_json(
        output / "results.json",
        {"data": data, "answers": said, "metric": metric, "means": rows, "cost": dict(cost)},
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
            f"Differences of {metric}",
            "Paired by case and seed, over patients and seeds together; a difference counts only if its p-value, "
            "corrected for the number of rows (Holm), is below 0.05. Shares were chosen on validation patients. A case "
            "made from a real one trains only beside that one. Synthetic cases: "
            + "; ".join(f"{arm}, {numbers['synthetic']}" for arm, numbers in cost.items() if numbers["synthetic"])
            + ".",
            differences,
        ),
        *(Section(f"{metric} on {test}", "Means over seeds.", results) for test, results in means.items()),
    ]
    cases = sum(len(held.patients) for held in judged.held_out.values())
    write_page(
        output / "report.html", {"data": data}, {"data": cases}, sections, {}, {},
        title="Does synthetic data help?", sentences=[answer.sentence for answer in found],
    )  # fmt: skip
