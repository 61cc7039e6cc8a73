"""The study's options as text."""

import pytest

from skiagraph.cli.study import _named, _numbers
from skiagraph.errors import DataError


def test_numbers_and_names():
    assert _numbers("10,50,10", int, "--real") == (10, 50)
    assert _numbers("0,0.25", float, "--share") == (0.0, 0.25)
    assert _named(["a=x", "b=y=z"], "--test") == {"a": "x", "b": "y=z"}
    assert _named(None, "--test") == {}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [("ten", int, "must be numbers"), ("0", int, "counts are above 0"), ("1.0", float, "from 0 to below 1")],
)
def test_other_numbers_are_refused(text, kind, message):
    with pytest.raises(DataError, match=message):
        _numbers(text, kind, "--real")


@pytest.mark.parametrize("text", ["folder", "=folder", "name="])
def test_names_without_folders_are_refused(text):
    with pytest.raises(DataError, match="NAME=FOLDER"):
        _named([text], "--test")
