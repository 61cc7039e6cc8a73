"""Prompts retrieved from real reports, so that what is generated covers what the real cases lack.

arXiv 2503.07209 takes its prompts from a bank by retrieval and does not say how. Here a report is the set of facts that
it states, and reports are drawn from the bank one by one so that the facts of all cases together come as near as they
can to a target's: kernel herding (Chen, Welling and Smola 2010, "Super-samples from kernel herding", Eq. 8), with a
linear kernel. Its error falls as 1 / n; that of random draws as 1 / sqrt(n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skiagraph.data.reports import Report
from skiagraph.domains.domain import DEFAULT, load_domain
from skiagraph.errors import ReportError


@dataclass(frozen=True)
class Retrieved:
    """Reports that were chosen, and the share of cases that state each fact: in the target, before and after.

    `before` is of the cases one has, None where there are none; `after` is of these and the chosen ones together.
    """

    reports: tuple[str, ...]
    target: dict[str, float]
    before: dict[str, float] | None
    after: dict[str, float]


def facts_of_report(report: Report) -> frozenset[str]:
    """What a report states: findings by name, with side and with zone; or that all is normal; view, age, sex."""
    facts = {name for name in report.present()}
    for finding in report.findings:
        if finding.present and finding.side:
            facts |= {f"{finding.side} {finding.name}"}
            facts |= {f"{finding.side} {zone} {finding.name}" for zone in finding.zones}
    normal = {"normal"} if report.normal else set()
    return frozenset(facts | normal | {f for f in (report.view, report.age_group, report.sex) if f})


def retrieve(
    bank: Sequence[str], count: int, *, like: Sequence[str] | None = None, have: Sequence[str] = (),
    domain: str = DEFAULT,
) -> Retrieved:  # fmt: skip
    """Choose `count` reports of `bank`, repeatedly where there are fewer, so that all cases are like a target.

    Each choice is the report that takes the facts' shares among the cases so far, `have` included, nearest to the
    target's (squared distance); of equally good ones that which was chosen least, then that which comes first.

    Args:
        bank: reports to choose from; those in which nothing is understood are passed over.
        count: how many to choose, at least 1.
        like: reports whose facts' shares are the target; the bank's own where None.
        have: reports of the real cases that the chosen ones are to complete.
        domain: what the reports are of, as `load_domain` takes it.

    Raises:
        ReportError: an empty report, or none in which anything is understood, in the bank or in the target.
    """
    if count < 1:
        raise ReportError(f"{count} prompts asked for; at least one can be chosen")
    parse = load_domain(domain).parse
    stated = {report: facts_of_report(parse(report)) for report in {*bank, *(like or ()), *have}}
    usable = [report for report in dict.fromkeys(bank) if stated[report]]
    aims = [stated[report] for report in (bank if like is None else like) if stated[report]]
    for name, found in (("bank", usable), ("target", aims)):
        if not found:
            raise ReportError(f"nothing is understood in any report of the {name}; write findings in English")
    names = sorted(frozenset().union(*aims, *(stated[report] for report in usable)))
    rows, owned = _table([stated[r] for r in usable], names), _table([stated[r] for r in have], names)
    target = _table(aims, names).mean(axis=0)
    chosen = _herd(rows, target, owned.sum(axis=0), len(owned), count)
    after = (owned.sum(axis=0) + rows[chosen].sum(axis=0)) / (len(owned) + count)
    return Retrieved(
        tuple(usable[i] for i in chosen),
        _shares(names, target),
        _shares(names, owned.mean(axis=0)) if len(owned) else None,
        _shares(names, after),
    )


def _herd(rows: np.ndarray, target: np.ndarray, total: np.ndarray, cases: int, count: int) -> list[int]:
    """Indices of `rows` (reports, facts); `total` (facts,) is the sum of those of `cases` there are already."""
    half, used, chosen = (rows**2).sum(axis=1) / 2, np.zeros(len(rows), int), []
    for number in range(cases + 1, cases + count + 1):
        gain = rows @ (number * target - total) - half
        best = np.flatnonzero(gain >= gain.max() - 1e-9)
        pick = int(best[used[best].argmin()])
        chosen.append(pick)
        used[pick] += 1
        total = total + rows[pick]
    return chosen


def _table(stated: Sequence[frozenset[str]], names: Sequence[str]) -> np.ndarray:
    return np.array([[name in facts for name in names] for facts in stated], float).reshape(-1, len(names))


def _shares(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}
