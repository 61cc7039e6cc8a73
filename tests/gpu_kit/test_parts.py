"""Folders that travel in parts come back as they were, or not at all."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

KIT = Path(__file__).parents[2] / "gpu-kit"
sys.path.insert(0, str(KIT))
from parts import join, split  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in/deeper").mkdir(parents=True)
    return tmp_path / "in"


@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=40_000), kilobytes=st.integers(1, 30), compress=st.booleans())
def test_parts_are_small_enough_and_join_to_the_same_files(tmp_path_factory, content, kilobytes, compress):
    root = tmp_path_factory.mktemp("parts")
    (root / "in/deeper").mkdir(parents=True)
    (root / "in/deeper/file").write_bytes(content)
    parts = split(root / "in", root / "out", "data", kilobytes / 1000, compress=compress)
    assert all(p.stat().st_size <= kilobytes * 1000 for p in parts)
    join(parts[::-1], root / "back")
    assert (root / "back/deeper/file").read_bytes() == content


def test_parts_of_an_earlier_archive_go(tmp_path, folder):
    (folder / "file").write_bytes(bytes(30_000))
    assert len(split(folder, tmp_path / "out", "data", 0.01, compress=False)) > 1
    split(folder, tmp_path / "out", "data", 1, compress=False)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["data.000.of-001.part"]


@pytest.mark.parametrize("lost", [1, -1, slice(None)])
def test_a_missing_part_is_noticed_and_nothing_is_written(tmp_path, folder, lost):
    (folder / "file").write_bytes(bytes(range(256)) * 200)
    parts = split(folder, tmp_path / "out", "data", 0.01, compress=False)
    del parts[lost]
    with pytest.raises(SystemExit, match="copy the others"):
        join(parts, tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


def test_a_truncated_part_is_noticed_and_nothing_is_written(tmp_path, folder):
    (folder / "file").write_bytes(bytes(range(256)) * 200)
    parts = split(folder, tmp_path / "out", "data", 0.01, compress=True)
    parts[-1].write_bytes(parts[-1].read_bytes()[:-100])
    with pytest.raises(SystemExit, match="do not unpack"):
        join(parts, tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
