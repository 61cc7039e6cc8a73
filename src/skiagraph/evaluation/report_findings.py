"""How well a report parser reads sentences that have been labelled by reading them.

A label is `name:status` or `name:status:side`, with the status "present", "uncertain" (stated, with a doubt) or
"absent" (denied), or one of two words: "normal" (the chest is called normal) and "other" (something abnormal that the
vocabulary has no name for). Labels refer to sentences by report, column, index and hash, so that a table of them holds
no text.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from skiagraph.data.reports import Report
from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap


@dataclass(frozen=True)
class Mention:
    """A labelled finding; `status` "present", "uncertain" or "absent", `side` "left", "right", "bilateral" or ""."""

    name: str
    status: str
    side: str = ""


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence and what it says; `part` and `sample` as in the table, `words` are the labels without a status."""

    text: str
    part: str
    sample: str
    mentions: tuple[Mention, ...]
    words: frozenset[str]

    @property
    def stated(self) -> dict[str, Mention]:
        """Findings that are present or uncertain, by name."""
        return {m.name: m for m in self.mentions if m.status != "absent"}

    @property
    def denied(self) -> set[str]:
        """Names of findings that are absent."""
        return {m.name for m in self.mentions if m.status == "absent"}

    @property
    def quiet(self) -> bool:
        """It calls the chest normal or denies findings, and states nothing abnormal."""
        return not self.stated and "other" not in self.words and bool(self.denied or "normal" in self.words)


def sentences(text: str) -> list[str]:
    """Sentences of a report as the labelled tables count them: cut at . ; ! ? that no digit precedes."""
    pieces = re.split(r"(?<!\d)[.;!?]+(?=\s|[A-Z]|$)|\n", text)
    return [p.strip() for p in pieces if re.search("[a-zA-Z]", p)]


def sentence_hash(sentence: str) -> str:
    """First 12 hexadecimal digits of the sentence's SHA-256."""
    return hashlib.sha256(sentence.encode()).hexdigest()[:12]


def read_labelled(table: Path, reports: Path) -> list[LabelledSentence]:
    """Labelled sentences of `table`, their text taken from the CSV file `reports` (columns uid and those named).

    Raises:
        EvaluationError: a sentence is missing, or is not the one that was labelled.
    """
    texts = {row["uid"]: row for row in _rows(reports)}
    return [_labelled(row, texts) for row in _rows(table)]


def presence(name: str, labelled: Sequence[LabelledSentence], parsed: Sequence[Report]) -> np.ndarray:
    """Counts (n, 3) of one finding, present or uncertain: true positives, false positives, false negatives."""
    return _counts([name in s.stated for s in labelled], [name in r.present() for r in parsed])


def denial(name: str, labelled: Sequence[LabelledSentence], parsed: Sequence[Report]) -> np.ndarray:
    """Counts (n, 3) of one finding denied."""
    return _counts([name in s.denied for s in labelled], [name in r.absent() for r in parsed])


def normality(labelled: Sequence[LabelledSentence], parsed: Sequence[Report]) -> np.ndarray:
    """Counts (n, 3) of sentences that make a normal chest: see `LabelledSentence.quiet`."""
    return _counts([s.quiet for s in labelled], [reads_as_normal(r) for r in parsed])


def unnamed(labelled: Sequence[LabelledSentence], parsed: Sequence[Report]) -> np.ndarray:
    """Counts (n, 3) of sentences that state something abnormal which the vocabulary has no name for."""
    found = [bool(getattr(r, "abnormal", ())) and not r.present() for r in parsed]
    return _counts(["other" in s.words for s in labelled], found)


def sides(labelled: Sequence[LabelledSentence], parsed: Sequence[Report]) -> np.ndarray:
    """(n, 2): findings found among those labelled with a side, and of these the ones whose side is right."""
    rows = []
    for sentence, report in zip(labelled, parsed, strict=True):
        sided = {n: m.side for n, m in sentence.stated.items() if m.side and n in report.present()}
        agree = sum(_side_of(report, name) == side for name, side in sided.items())
        rows.append((len(sided), agree))
    return np.array(rows)


def certainty(labelled: Sequence[LabelledSentence], parsed: Sequence[Report]) -> np.ndarray:
    """Counts (n, 3) of doubt among the findings that both state."""
    rows = []
    for sentence, report in zip(labelled, parsed, strict=True):
        both = [n for n in sentence.stated if n in report.present()]
        truth = [sentence.stated[n].status == "uncertain" for n in both]
        doubted = {n for n in both if all(f.uncertain for f in report.findings if f.name == n and f.present)}
        rows.append(_counts(truth, [n in doubted for n in both]).sum(axis=0) if both else np.zeros(3, int))
    return np.array(rows)


def f1(counts: np.ndarray) -> float:
    """F1 of counts (n, 3); NaN where neither side has any."""
    tp, fp, fn = counts.sum(axis=0)
    return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else float("nan")


def precision(counts: np.ndarray) -> float:
    """Precision of counts (n, 3); NaN where nothing was found."""
    tp, fp, _ = counts.sum(axis=0)
    return float(tp / (tp + fp)) if tp + fp else float("nan")


def recall(counts: np.ndarray) -> float:
    """Recall of counts (n, 3); NaN where nothing was to be found."""
    tp, _, fn = counts.sum(axis=0)
    return float(tp / (tp + fn)) if tp + fn else float("nan")


def share(pairs: np.ndarray) -> float:
    """Sum of the second column over the first's, of (n, 2); NaN where there is none."""
    total, part = pairs.sum(axis=0)
    return float(part / total) if total else float("nan")


def measured(
    name: str,
    statistic: Callable[[np.ndarray], float],
    rows: np.ndarray,
    n: int,
    direction: Literal["higher", "lower"] = "higher",
) -> MetricResult:
    """A statistic of rows, one per sentence, with its interval over sentences; `n` is what the table gives as n.

    Where no resample differs, as without any error, the interval reaches 3 / n from the value (Hanley 1983).
    """
    value = statistic(rows)
    if np.isnan(value):
        return MetricResult(name, value, value, value, n, direction)
    low, high = bootstrap(statistic, rows)
    if low == high and n:
        low, high = max(value - 3 / n, 0.0), min(value + 3 / n, 1.0)
    return MetricResult(name, value, low, high, n, direction)


def _counts(truth: Sequence[bool], found: Sequence[bool]) -> np.ndarray:
    t, f = np.array(truth, bool), np.array(found, bool)
    return np.stack([t & f, ~t & f, t & ~f], axis=1).astype(int)


def reads_as_normal(report: Report) -> bool:
    """As a chest `report_prompt` decides it, also of a parser that names nothing unrecognised."""
    silent = not getattr(report, "unrecognised", ())
    return not report.present() and (report.normal or (bool(report.absent()) and silent))


def _side_of(report: Report, name: str) -> str:
    """Side of all mentions of a present finding: both together are bilateral."""
    found = {f.side for f in report.findings if f.name == name and f.present and f.side}
    return "bilateral" if len(found) > 1 else next(iter(found), "")


def _labelled(row: Mapping[str, str], texts: Mapping[str, Mapping[str, str]]) -> LabelledSentence:
    place = f"report {row['uid']}, {row['column']}, sentence {row['sentence']}"
    found = sentences(texts[row["uid"]][row["column"]]) if row["uid"] in texts else []
    index = int(row["sentence"])
    if index >= len(found) or sentence_hash(found[index]) != row["sha256"]:
        raise EvaluationError(f"{place} is not the sentence that was labelled; use the same edition of the reports")
    labels = [tuple(label.split(":")) for label in row["labels"].split("|") if label]
    return LabelledSentence(
        text=found[index],
        part=row["part"],
        sample=row["sample"],
        mentions=tuple(Mention(*label) for label in labels if len(label) > 1),
        words=frozenset(label[0] for label in labels if len(label) == 1),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
