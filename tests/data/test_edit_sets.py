"""Edits of a run and of a table."""

import json

import numpy as np
import pytest
from PIL import Image

from skiagraph.data.edit_sets import read_edits
from skiagraph.errors import DataError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(path)


def frame(file, *read):
    return {"file": file, "read": [{"finding": finding, "wanted": wanted} for finding, wanted in read]}


def test_the_strongest_edit_of_each_radiograph_of_a_run(tmp_path):
    for name in ("a/before.png", "a/after-1.png", "a/after-2.png", "a/region.png", "b/before.png", "b/after-1.png"):
        picture(tmp_path / name)
    rows = [
        {"folder": "a", "frames": [frame("a/after-1.png"), frame("a/after-2.png", ("edema", True), ("mass", False))]},
        {"folder": "b", "frames": [frame("b/after-1.png", ("mass", False))]},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"verb": "edit", "edits": rows}))
    a, b = read_edits(str(tmp_path))
    assert (a.before, a.after) == (tmp_path / "a/before.png", tmp_path / "a/after-2.png")
    assert (a.region, a.come, a.go) == (tmp_path / "a/region.png", ("edema",), ("mass",))
    assert (b.region, b.come, b.go) == (None, (), ("mass",))


def test_a_table_of_edits_made_elsewhere(tmp_path):
    for name in ("x.png", "y.png"):
        picture(tmp_path / name)
    (tmp_path / "edits.csv").write_text("before,after,come\nx.png,y.png,effusion; edema\n")
    (pair,) = read_edits(str(tmp_path / "edits.csv"))
    assert (pair.before, pair.after, pair.region) == (tmp_path / "x.png", tmp_path / "y.png", None)
    assert (pair.come, pair.go) == (("effusion", "edema"), ())


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "neither a table nor a finished run"),
        ('{"verb": "generate"}', "written by skiagraph generate"),
        ('{"verb": "edit", "edits": []}', "holds no edits"),
        ('{"verb": "edit", "frames": [{"file": "after-1.png", "read": []}]}', "which is not there"),
    ],
)
def test_what_is_no_edit_is_named(tmp_path, manifest, message):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(DataError, match=message):
        read_edits(str(tmp_path))
    with pytest.raises(DataError, match="neither a table nor"):
        read_edits(str(tmp_path / "gone"))
