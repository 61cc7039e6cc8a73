"""Free radiology report text to findings, side, zone, view, age and sex.

Rules in the manner of NegEx (Chapman et al. 2001): a finding is a phrase of `report_words.FINDINGS`; a trigger before
or after it denies it or makes it uncertain, as far as its scope reaches; side, zone and size come from the words
nearest to it. What may be ("possible", "cannot be excluded", "may represent") is present and uncertain. What was
("history of", "prior", "status post") is neither present nor absent. What is gone ("has resolved", "removed") is
absent.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace

from skiagraph.data.chest import report_words as words
from skiagraph.data.chest.report_words import FINDINGS
from skiagraph.data.reports import Finding, Report
from skiagraph.errors import ReportError

__all__ = ["FINDINGS", "parse_report"]

CHILD_BELOW = 15.0
"""Years of age."""

LONGEST = 600
"""Characters of a sentence; a longer one is read in parts, so that the time stays proportional to the text."""

NEAR = 3
"""A prior or old thing is named within so many words."""


@dataclass(frozen=True)
class _Span:
    """Where a clause names something; `name` is empty for what is abnormal and has no name."""

    start: int
    end: int
    name: str


@dataclass(frozen=True)
class _Clause:
    """What one clause says; `known`: something in it was understood."""

    text: str
    findings: tuple[Finding, ...] = ()
    abnormal: bool = False
    normal: bool = False
    known: bool = False


def parse_report(text: str) -> Report:
    """Read a free-text report in English; clauses in other languages are left unrecognised.

    Raises:
        ReportError: not a string, or nothing but white space.
    """
    if not isinstance(text, str) or not text.strip():
        raise ReportError("the report is empty; write at least one finding, such as 'Small left pleural effusion.'")
    plain = _plain(text)
    clauses = _read(plain)
    findings = tuple(f for c in clauses for f in c.findings)
    age = _age(plain)
    report = Report(
        findings=findings,
        view=_view(plain),
        age=age,
        age_group=_age_group(plain, age),
        sex=_sex(plain),
        unrecognised=tuple(c.text for c in clauses if not c.known),
        abnormal=tuple(c.text for c in clauses if c.abnormal),
    )
    says_so = any(c.normal for c in clauses) or (report.absent() and not report.unrecognised)
    normal = bool(says_so) and not report.present() and not report.abnormal
    return replace(report, normal=normal)


def _plain(text: str) -> str:
    """Lower case, one space, abbreviations written out, a full stop where a line ends a sentence."""
    wrapped = text.upper() == text
    ends = r"\n\s*\n" if wrapped else r"\n\s*(?=[A-Z\d*•-])|\n\s*\n"
    plain = " ".join(re.sub(rf"(?<![.;:,!?\s])\s*(?:{ends})", ". ", text.strip()).lower().replace("’", "'").split())
    for pattern, written in _SPELLINGS:
        plain = re.sub(pattern, written, plain)
    return re.sub(r"\b(?:" + "|".join(words.ABBREVIATIONS) + r")\b", lambda m: words.ABBREVIATIONS[m[0]], plain)


_SPELLINGS = [
    (r"\bvs\.", "versus"),
    (r"\bdr\.", "dr"),
    (r"\bcan't\b", "cannot"),
    (r"n't\b", " not"),
    (r"\b([ap])\.([ap])\.?(?=\W|$)", r"\1\2"),
    (r"\b(\d{1,3}) ?-?(?:y/o|y\.o\.?|yo|yrs? old)(?=\W|$)", r"\1 year old"),
    (r"(?:^|(?<=\s))\?\s*(?=[a-z])", "possible "),
    (r"(?<=[a-z])\s*\?", " questionable."),
]
"""Ways of writing that the rules would misread, and how they are written for them."""


def _statements(plain: str) -> str:
    """The text without sections on the past, the technique or other pictures; "effusion: none" as "no effusion"."""
    heads = rf"(?:{words.HEADINGS}|{words.STATEMENTS})"
    past = rf"(?<![\w-])(?:{words.HEADINGS})\s*:.*?(?=(?:\.|;)(?!\d)|\b{heads}\s*:|$)"
    text = re.sub(past, " ", plain)
    text = re.sub(rf"((?:[\w-]+ ){{0,3}}[\w-]+)\s*:\s*(?:{words.NONE})\b(?=\W*(?:[.;,]|$))", r"no \1", text)
    topic = rf"(?:^|(?<=[.;] ))(?!no\b|(?:{words.TITLES})\b)((?:[\w/-]+ ){{0,2}}[\w-]+)\s*:"
    return re.sub(topic, r"\1", text)


def _read(plain: str) -> list[_Clause]:
    """Clauses in their order; none is read where most are in another language."""
    texts = list(_clauses(_statements(plain)))
    foreign = [re.search(words.OTHER_LANGUAGES, t) is not None for t, _ in texts]
    if 2 * sum(foreign) > len(texts):
        foreign = [True] * len(texts)
    return [_Clause(t) if strange else _clause(t, before) for (t, before), strange in zip(texts, foreign, strict=True)]


def _clauses(text: str) -> Iterator[tuple[str, str]]:
    """Clauses that hold a word, each with what stands before it in its sentence."""
    sentences = re.split(r"[.;:!?](?!\d)|\s[-–—]+\s", text)
    for part in (part for sentence in sentences for part in textwrap.wrap(sentence, LONGEST)):
        before = ""
        for piece in re.split(words.NEW_CLAUSE, part):
            clause = piece.strip(" ,*•-")
            if len(clause) > 1 and re.search("[^\\W\\d]", clause):
                yield clause, before
            before += piece


def _clause(text: str, before: str) -> _Clause:
    named = _spans(text)
    findings = [_finding(text, named, index, before) for index in range(len(named))]
    findings += [Finding(name, present=False, text=text) for name in _denied_by_health(text, findings)]
    unnamed = [_Span(*m.span(), "") for m in re.finditer(rf"\b(?:{words.ABNORMAL})\b", text)]
    stated = any(not _denied(text, [s], 0) and not _history(text, s) for s in unnamed)
    abnormal = stated and not any(f.present for f in findings)
    normal = _calls_normal(text)
    known = bool(findings or unnamed or normal or re.search(words.UNDERSTOOD, text))
    return _Clause(text, tuple(findings), abnormal, normal, known and not abnormal)


def _spans(clause: str) -> list[_Span]:
    """Places of findings in their order; a word that two claim goes to the first in the table."""
    spans: list[_Span] = []
    for name, pattern in FINDINGS.items():
        for match in re.finditer(rf"\b(?:{pattern.strip()})\b", clause):
            if not any(match.start() < s.end and s.start < match.end() for s in spans):
                spans.append(_Span(*match.span(), name))
    return sorted(spans, key=lambda s: s.start)


def _denied_by_health(clause: str, findings: list[Finding]) -> list[str]:
    """What clear lungs, sharp angles and a normal heart deny, unless the clause names it."""
    denied = []
    if re.search(words.CLEAR_LUNGS, clause):
        denied += ["opacity", "consolidation"]
    if re.search(words.CLEAR_ANGLES, clause):
        denied.append("effusion")
    if re.search(words.NORMAL_HEART, clause):
        denied.append("cardiomegaly")
    named = {f.name for f in findings}
    return [name for name in denied if name not in named]


def _calls_normal(clause: str) -> bool:
    acute = (clause[: m.end()] for m in re.finditer(words.NOTHING_ACUTE, clause))
    whole = any(not re.search(rf"\b(?:{words.PARTS})\b", said) for said in acute)
    return whole or re.search(words.NORMAL_CHEST, clause) is not None


def _finding(clause: str, spans: list[_Span], index: int, before: str) -> Finding:
    span = spans[index]
    denied = _denied(clause, spans, index)
    history = not denied and _history(clause, span)
    present = not denied and not history
    nearby = _nearby(clause, spans, index)
    return Finding(
        name=span.name,
        present=present,
        uncertain=present and _uncertain(clause, spans, index),
        side=_side(nearby) or _side(before + clause[: spans[0].start]) or _side(_shared_end(clause, spans, index)),
        zones=_named(words.ZONES, nearby),
        severity=next(iter(_named(words.SEVERITIES, nearby)), None),
        text=clause,
        history=history,
    )


def _denied(clause: str, spans: list[_Span], index: int) -> bool:
    """A denial before, after or inside the words of the finding reaches it, and none that leaves it open."""
    open_ = rf"{words.STATED_ANYWAY}|{words.NOT_EXCLUDED_BEFORE}|{words.NOT_EXCLUDED_AFTER}"
    masked = re.sub(open_, lambda m: "~" * len(m[0]), clause)
    span = spans[index]
    if _after(words.HEDGED_AFTER, clause, spans, index) and re.search(words.NOT_EXCLUDED_AFTER, clause[span.end :]):
        return False
    return bool(
        (span.name and re.search(r"\b(?:not|no)\b", masked[span.start : span.end]))
        or _before(words.DENIED_BEFORE, masked, span, words.END_OF_DENIAL)
        or _after(words.DENIED_AFTER, masked, spans, index)
        or (span.name not in words.LASTING and _after(words.NORMAL_AFTER, masked, spans, index))
    )


def _uncertain(clause: str, spans: list[_Span], index: int) -> bool:
    span = spans[index]
    return bool(
        re.search(words.SIGNS.get(span.name, r"(?!)"), clause[span.start : span.end])
        or _before(words.HEDGED_BEFORE, clause, span, words.END_OF_DENIAL)
        or _after(words.HEDGED_AFTER, clause, spans, index)
    )


def _history(clause: str, span: _Span) -> bool:
    """The clause speaks of the past, and not of something whose traces stay."""
    ends = rf"{words.HISTORY_ENDS}|{words.END_OF_DENIAL}"
    if span.name not in words.PROCEDURES and _before(words.HISTORY, clause, span, ends):
        return True
    if span.name in words.LASTING:
        return False
    for prior in re.finditer(words.PRIOR, clause[: span.start]):
        between = clause[prior.end() : span.start]
        compared = re.search(words.COMPARED, clause[: prior.start()])
        if len(between.split()) <= NEAR and not re.search(r"[,(]", between) and not compared:
            return True
    return False


def _before(triggers: str, clause: str, span: _Span, ends: str) -> bool:
    """A trigger stands before the finding, and no end of its scope between them."""
    for trigger in re.finditer(triggers, clause[: span.start]):
        if not _ends_between(clause, trigger.end(), span.start, ends):
            return True
    return False


def _after(triggers: str, clause: str, spans: list[_Span], index: int) -> bool:
    """A trigger stands after the finding and is about it: a singular one is not, past another finding."""
    end = spans[_together(clause, spans, index)[1]].end
    for trigger in re.compile(triggers).finditer(clause, end):
        between = clause[end : trigger.start()]
        if re.search(words.JOINED_WITH, between):
            continue
        others = any(s.start >= end and s.end <= trigger.start() for s in spans)
        if not others:
            if not _ends_between(clause, end, trigger.start()):
                return True
        elif re.search(r"\bor\b" if re.match(_SINGULAR, trigger[0].strip()) else r"\b(?:and|or)\b", between):
            return True
    return False


_SINGULAR = r"is\b|has\b|was\b|unlikely|resolved|versus|appears\b|remains\b"


def _ends_between(clause: str, start: int, stop: int, ends: str = words.END_OF_DENIAL) -> bool:
    """A scope ends, or another subject begins, between the two places."""
    end = re.compile(ends).search(clause, start)
    return end is not None and end.start() < stop


def _nearby(clause: str, spans: list[_Span], index: int) -> str:
    """The finding with the words between it and its neighbours that belong to it rather than to them."""
    first, last = _together(clause, spans, index)
    begin = _border(clause, spans[first - 1], spans[first])[1] if first else 0
    end = _border(clause, spans[last], spans[last + 1])[0] if last + 1 < len(spans) else len(clause)
    return clause[begin:end]


def _together(clause: str, spans: list[_Span], index: int) -> tuple[int, int]:
    """First and last of the findings that follow each other at once, as in "nodular opacity"."""
    first = last = index
    while first and not clause[spans[first - 1].end : spans[first].start].strip():
        first -= 1
    while last + 1 < len(spans) and not clause[spans[last].end : spans[last + 1].start].strip():
        last += 1
    return first, last


def _border(clause: str, first: _Span, second: _Span) -> tuple[int, int]:
    """Where the words of one finding end and those of the next begin: at the last "and", "or", "with" or comma.

    Without one, the words between belong to both.
    """
    joints = list(re.finditer(r",|\b(?:and|or|with|versus)\b", clause[first.end : second.start]))
    if not joints:
        return second.start, first.end
    return first.end + joints[-1].start(), first.end + joints[-1].end()


def _shared_end(clause: str, spans: list[_Span], index: int) -> str:
    """The words after the last finding, if this one is joined to it by nothing but "and" or "or"."""
    between = (clause[a.end : b.start] for a, b in zip(spans[index:-1], spans[index + 1 :], strict=True))
    return clause[spans[-1].end :] if all(re.fullmatch(r"\W*(?:and|or)?\W*", b) for b in between) else ""


def _side(text: str) -> str | None:
    sides = _named(words.SIDES, text)
    if "bilateral" in sides or {"left", "right"} <= set(sides):
        return "bilateral"
    return sides[0] if sides else None


def _named(table: dict[str, str], text: str) -> tuple[str, ...]:
    return tuple(name for name, pattern in table.items() if re.search(pattern, text))


def _view(text: str) -> str | None:
    if re.search(r"\bpa\b(?! (?:catheter|pressure|diameter|enlarge|is|are)\w*)|\bposteroanterior\b", text):
        return "PA"
    if re.search(r"\bap\b(?! (?:diameter|dimension)\w*)|\banteroposterior\b|\bportable\b|\bsupine\b", text):
        return "AP"
    return "lateral" if re.search(r"\blateral (?:view|chest|radiograph)\b", text) else None


def _age(text: str) -> float | None:
    """Years, where the text says how old someone is or names a sex after the number; never a time between pictures."""
    for match in re.finditer(
        rf"\b(\d{{1,3}})[- ]?(years?|yrs?|months?|weeks?|days?)[- ]?(?:old\b(?! (?:\w+ )?(?:{words.THINGS}))|of age\b"
        r"|(?=(?:male|female|man|woman|boy|girl)\b))|\baged? (\d{1,3})\b(?! (?:day|week|month))",
        text,
    ):
        if match[3]:
            return float(match[3])
        if not re.search(rf"\b(?:{words.THINGS})\w*(?: \w+){{0,2}} $", text[: match.start()]):
            return float(match[1]) / {"y": 1, "m": 12, "w": 52, "d": 365}[match[2][0]]
    sexed = re.search(r"\b(\d{1,3})[ -]?[mf]\b", text)
    return float(sexed[1]) if sexed else None


def _age_group(text: str, age: float | None) -> str | None:
    if age is not None:
        return "child" if age < CHILD_BELOW else "adult"
    if re.search(words.CHILD_WORDS, text):
        return "child"
    return "adult" if re.search(words.ADULT_WORDS, text) else None


def _sex(text: str) -> str | None:
    if re.search(r"\b(?:woman|female|girl)\b|\b\d{1,3}[ -]?(?:year old )?f\b", text):
        return "female"
    return "male" if re.search(r"\b(?:man|male|boy)\b|\b\d{1,3}[ -]?(?:year old )?m\b", text) else None
