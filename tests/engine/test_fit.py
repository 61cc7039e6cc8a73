"""Which picture fits a report, with the shipped classifier and with one of made-up answers."""

from dataclasses import replace

import numpy as np
import pytest

from skiagraph.domains.domain import load_domain
from skiagraph.engine import fit
from skiagraph.engine.fit import Fit
from skiagraph.errors import ModelError, ReportError

CHEST = load_domain("chest")
IMAGES = np.random.default_rng(0).uniform(size=(2, 64, 64)).astype(np.float32)


def answers(monkeypatch, **by_name):
    """Make the classifier say 0.5 of everything but these."""

    def classify(classifier, images):
        said = {name: np.full(len(images), 0.5) for name in classifier.config.labels}
        return None, said | {name: np.array(values) for name, values in by_name.items()}

    monkeypatch.setattr(fit, "classify", classify)


def test_the_mean_log_probability_of_all_that_is_stated(monkeypatch):
    answers(monkeypatch, effusion=[0.9, 0.2], cardiomegaly=[0.3, 0.3])
    judge = Fit(CHEST, ["Right pleural effusion. PA view of an adult."])
    stated = judge.stated["Right pleural effusion. PA view of an adult."]
    assert [stated[judge.names.index(name)] for name in ("effusion", "cardiomegaly")] == [1, 0]
    assert np.isnan(stated[judge.names.index("male")]), "it does not say"
    others = (~np.isnan(stated)).sum() - 2
    expected = (np.log([0.9, 0.2]) + np.log(0.7) + others * np.log(0.5)) / (others + 2)
    found = judge(["Right pleural effusion. PA view of an adult."] * 2, IMAGES)
    np.testing.assert_allclose(found, expected)


def test_each_picture_is_judged_by_its_own_report(monkeypatch):
    answers(monkeypatch, edema=[0.9, 0.9])
    judge = Fit(CHEST, ["Pulmonary edema.", "Normal chest."])
    shown, denied = judge(["Pulmonary edema.", "Normal chest."], IMAGES)
    assert shown > denied


def test_a_sure_mistake_is_bounded(monkeypatch):
    answers(monkeypatch, effusion=[0.0, 1.0])
    assert np.isfinite(Fit(CHEST, ["Effusion."])(["Effusion."] * 2, IMAGES)).all()


def test_colour_pictures_are_judged_by_their_mean():
    judge = Fit(CHEST, ["Effusion."])
    colour = np.repeat(IMAGES[..., None], 3, axis=-1)
    np.testing.assert_allclose(judge(["Effusion."] * 2, colour), judge(["Effusion."] * 2, IMAGES), rtol=1e-4)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ReportError, match="knows nothing that"):
        Fit(CHEST, ["Effusion.", "Rib fracture."])
    with pytest.raises(ModelError, match="no classifier"):
        Fit(replace(CHEST, judge=None), ["Effusion."])
