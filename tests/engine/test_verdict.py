import pytest

from skiagraph.engine.reading import CLEAR, verdict


@pytest.mark.parametrize(
    ("wanted", "before", "after", "word"),
    [
        (True, 0.1, 0.6, "came"),
        (True, 0.1, 0.15, "did not come"),
        (False, 0.8, 0.2, "went"),
        (False, 0.2, 0.6, "did not go"),
    ],
)
def test_a_line_says_whether_a_finding_came_or_went(wanted, before, after, word):
    towards = (after - before) * (1 if wanted else -1)
    judged = {"before": before, "after": after, "towards": towards, "done": towards >= CLEAR}
    said = {"finding": "effusion", "wanted": wanted, **judged}
    assert verdict(said) == f"effusion: {word}; a classifier gives it {before:.2f} before and {after:.2f} after"
    assert verdict(said | {"placed": False}).endswith("after; its place did not change as it would")


def test_a_finding_that_no_classifier_knows_has_no_probabilities():
    assert verdict({"finding": "opacity", "wanted": True, "done": True, "placed": True}) == "opacity: came"
