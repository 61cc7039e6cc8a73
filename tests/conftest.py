"""Fixtures of all tests. The tiny components themselves are functions of `tests/tiny.py`."""

import os
from pathlib import Path

import pytest

import elsewhere

if elsewhere.AVAILABLE:
    elsewhere.register()  # before the first gradient of the process: autograd counts devices once


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets; without it the test is skipped."""
    root = Path(os.environ.get("SKIAGRAPH_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"needs the real data in {root}")
    return root


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to open a connection fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a network connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture(scope="session")
def tokenizer():
    import tiny

    return tiny.tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of a saved tiny pipeline that reads reports as they are; shared, so not to be changed."""
    import tiny

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny.pipeline().save_pretrained(folder)
    return folder
