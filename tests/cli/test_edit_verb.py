import pytest

from skiagraph.cli.edit import _verdict


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
    said = {"finding": "effusion", "wanted": wanted, "before": before, "after": after, "towards": towards}
    assert _verdict(said).startswith(f"effusion: {word};")
