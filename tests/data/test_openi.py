"""The parser on real reports, against the terms that indexers gave each one (the column `MeSH`)."""

import csv
import re

import pytest

from skiagraph.data.captions import report_prompt
from skiagraph.data.reports import parse_report

pytestmark = pytest.mark.data

TERMS = {
    "effusion": r"pleural effusion|costophrenic angle.*blunted",
    "cardiomegaly": r"cardiomegaly",
    "pneumothorax": r"pneumothorax|hydropneumothorax",
    "atelectasis": r"atelectas[ie]s",
    "consolidation": r"consolidation",
    "emphysema": r"emphysema|pulmonary disease, chronic obstructive",
    "hernia": r"hernia",
    "granuloma": r"granuloma",
    "fracture": r"fractures?, bone",
}


@pytest.fixture(scope="module")
def reports(data_root):
    with open(data_root / "openi_reports/indiana_reports.csv", encoding="utf-8", newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if (r["findings"] + r["impression"]).strip()]
    return [(r["MeSH"].lower(), parse_report(f"{r['findings']} {r['impression']}")) for r in rows]


@pytest.mark.parametrize("name", TERMS)
def test_findings_agree_with_indexers(reports, name):
    stated = [bool(re.search(TERMS[name], mesh)) for mesh, _ in reports]
    found = [name in report.present() for _, report in reports]
    hits = sum(s and f for s, f in zip(stated, found, strict=True))
    assert sum(stated) >= 20
    assert 2 * hits / (sum(stated) + sum(found)) > 0.75


def test_sides_of_effusions_agree_with_indexers(reports):
    agree = total = 0
    for mesh, report in reports:
        terms = [t for t in mesh.split(";") if t.startswith("pleural effusion")]
        sides = {side for t in terms for side in ("left", "right", "bilateral") if side in t}
        found = {f.side for f in report.findings if f.name == "effusion" and f.present and f.side}
        if len(sides) == 1 and found:
            total += 1
            agree += sides <= found
    assert total > 50
    assert agree / total > 0.85


def test_normal_reports_have_few_findings(reports):
    normal = [report for mesh, report in reports if mesh == "normal"]
    assert sum(bool(r.present()) for r in normal) / len(normal) < 0.1


def test_few_abnormal_reports_become_a_normal_chest(reports):
    """Before findings beyond the model's vocabulary and unread clauses counted, 36 % did."""
    abnormal = [report for mesh, report in reports if mesh != "normal" and "technical quality" not in mesh]
    assert sum(report_prompt(r).startswith("normal chest") for r in abnormal) / len(abnormal) < 0.15


def test_nobody_becomes_a_child_by_a_date(reports):
    assert not [r for _, r in reports if r.age_group == "child" and r.age is not None]
