"""Judges that know what they were taught, and how far they agree."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import tiny
from skiagraph.errors import EvaluationError
from skiagraph.evaluation.judges import ClassifierJudge, ProbeJudge, agreement


def means(images):
    """Brightness of the four quarters."""
    half = images.shape[-1] // 2
    parts = [images[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    return np.stack([p.mean(axis=(1, 2)) for p in parts], axis=1)


@pytest.fixture(scope="module")
def cases():
    """Images with a bright first quarter where the finding is present; a third of the labels is not known."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 300).astype(float)
    images = rng.uniform(0, 0.5, (300, 8, 8))
    images[truth == 1, :4, :4] += 0.1
    known = truth.copy()
    known[::3] = np.nan
    return images, truth, known


def probe(cases, known=None):
    images, _, targets = cases
    columns = np.stack([targets if known is None else known, np.full(len(images), np.nan)], axis=1)
    return ProbeJudge(means, "quarters", means(images), columns, ["effusion", "unseen"], np.arange(len(images)) // 2)


def test_a_probe_learns_from_known_labels_and_reads_unknown_ones(cases):
    images, truth, known = cases
    judge = probe(cases)
    scores = judge(images)
    assert judge.name == "probe of quarters"
    assert set(scores) == {"effusion"}, "a finding nobody knows is left out"
    unknown = np.isnan(known)
    assert roc_auc_score(truth[unknown], scores["effusion"][unknown]) > 0.85
    assert scores["effusion"].min() >= 0
    assert scores["effusion"].max() <= 1


def test_what_cannot_be_learned_or_does_not_fit_is_refused(cases):
    with pytest.raises(EvaluationError, match="no finding has 10 known cases"):
        probe(cases, known=np.full(300, np.nan))
    with pytest.raises(EvaluationError, match="do not fit"):
        ProbeJudge(means, "quarters", np.zeros((3, 4)), np.zeros((2, 1)), ["effusion"], np.arange(3))


def test_agreement_is_of_ranks_and_by_finding():
    rng = np.random.default_rng(0)
    a = rng.uniform(size=200)
    found = agreement({"x": a, "y": a, "z": a}, {"x": a**3, "y": rng.uniform(size=200)})
    assert set(found) == {"x", "y"}
    assert found["x"].value == pytest.approx(1)
    assert found["y"].low < 0.05 < found["x"].low


def test_only_classifiers_judge(tmp_path):
    tiny.lung_segmenter().save_pretrained(tmp_path)
    with pytest.raises(EvaluationError, match="not a classifier"):
        ClassifierJudge(str(tmp_path))
    scores = ClassifierJudge()(np.random.default_rng(0).uniform(size=(2, 64, 64)))
    assert {"effusion", "male"} <= set(scores)
