import csv

import numpy as np
import pytest

from skiagraph.data.chest.reports import parse_report
from skiagraph.data.reports import Report
from skiagraph.errors import EvaluationError
from skiagraph.evaluation import report_findings as rf

FINDINGS = "Small left effusion.No pneumothorax. Possible edema; heart is 1.5 times large"


@pytest.fixture
def tables(tmp_path):
    """A report with three labelled sentences of its four."""
    rows = [(0, "effusion:present:left"), (1, "pneumothorax:absent"), (2, "edema:uncertain|other")]
    with open(tmp_path / "labels.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["uid", "column", "sentence", "sha256", "part", "sample", "labels"])
        for index, labels in rows:
            key = rf.sentence_hash(rf.sentences(FINDINGS)[index])
            writer.writerow([7, "findings", index, key, "test", "random", labels])
    (tmp_path / "reports.csv").write_text(f'uid,findings\n7,"{FINDINGS}"\n')
    return tmp_path / "labels.csv", tmp_path / "reports.csv"


def test_sentences_are_counted_as_in_the_table():
    assert rf.sentences(FINDINGS) == [
        "Small left effusion", "No pneumothorax", "Possible edema", "heart is 1.5 times large",
    ]  # fmt: skip
    assert rf.sentences(" . 1. ") == []


def test_labels_are_joined_to_their_sentences(tables):
    first, second, third = rf.read_labelled(*tables)
    assert first.stated["effusion"].side == "left"
    assert (second.denied, second.quiet, first.quiet, third.quiet) == ({"pneumothorax"}, True, False, False)
    assert third.words == {"other"}


def test_another_edition_of_the_reports_is_refused(tables):
    labels, reports = tables
    reports.write_text('uid,findings\n7,"Large left effusion. No pneumothorax."\n')
    with pytest.raises(EvaluationError, match="report 7, findings, sentence 0"):
        rf.read_labelled(labels, reports)


def test_counts_of_a_perfect_and_a_silent_parser(tables):
    labelled = rf.read_labelled(*tables)
    perfect, silent = [parse_report(s.text) for s in labelled], [Report()] * 3
    assert rf.presence("effusion", labelled, perfect).sum(axis=0).tolist() == [1, 0, 0]
    assert rf.presence("effusion", labelled, silent).sum(axis=0).tolist() == [0, 0, 1]
    assert rf.denial("pneumothorax", labelled, perfect).sum(axis=0).tolist() == [1, 0, 0]
    assert rf.sides(labelled, perfect).sum(axis=0).tolist() == [1, 1]
    assert rf.certainty(labelled, perfect).sum(axis=0).tolist() == [1, 0, 0]
    assert rf.normality(labelled, perfect).sum(axis=0).tolist() == [1, 0, 0]
    assert rf.unnamed(labelled, perfect).sum(axis=0).tolist() == [0, 0, 1]


def test_scores_of_known_counts():
    counts = np.array([[3, 1, 0], [0, 0, 2]])
    assert (rf.precision(counts), rf.recall(counts), rf.f1(counts)) == (0.75, 0.6, pytest.approx(2 / 3))
    assert np.isnan(rf.f1(np.zeros((4, 3), int)))
    assert rf.share(np.array([[2, 1], [2, 2]])) == 0.75
    result = rf.measured("F1", rf.f1, np.array([[1, 0, 0]] * 5 + [[0, 1, 0]] * 5), 5)
    assert result.low < result.value < result.high
    assert result.n == 5
    perfect = rf.measured("F1", rf.f1, np.array([[1, 0, 0]] * 30), 30)
    assert (perfect.value, perfect.low, perfect.high) == (1, 0.9, 1)
