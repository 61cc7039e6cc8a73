import errno
import json
import os

import pytest

from skiagraph.errors import SkiagraphError
from skiagraph.files import atomic_path, sha256, write_json


def left(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a.json"
    write_json(target, {"old": 1})

    def half_written():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        half_written()
    assert json.loads(target.read_text()) == {"old": 1}
    assert left(tmp_path) == ["a.json"]


def test_folders_are_replaced_whole(tmp_path):
    for name in ("first", "second"):
        with atomic_path(tmp_path / "out") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert left(tmp_path / "out") == ["second"]
    assert left(tmp_path) == ["out"]


def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    whole = os.replace

    def fails(source, target):
        if ".tmp" in str(source) and str(target).endswith("out") and not str(source).endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        whole(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="Input/output"), atomic_path(tmp_path / "out") as temporary:
        temporary.mkdir()
    assert left(tmp_path / "out") == ["old"]
    assert left(tmp_path) == ["out"]


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the system has no /proc")
def test_a_place_without_folders_is_named():
    with pytest.raises(SkiagraphError, match="no folder can be made at /proc/nowhere"):
        write_json("/proc/nowhere/a.json", {})
