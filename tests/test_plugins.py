"""Organ finders and readers of data sets that other packages bring."""

from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skiagraph import plugins
from skiagraph.data.images import Radiograph
from skiagraph.data.layouts.case import Case
from skiagraph.domains.domain import load_domain
from skiagraph.engine.exchange import import_set
from skiagraph.errors import DataError
from skiagraph.pipelines.organs import organ_regions
from skiagraph.progress import silent

OURS = "test_plugins"


def halves(image):
    """An organ finder: the picture's halves are its lungs."""
    right = np.arange(image.shape[1])[None] < image.shape[1] // 2
    return {"right lung": np.broadcast_to(right, image.shape), "left lung": np.broadcast_to(~right, image.shape)}


def read(folder):
    """A reader: every picture is a patient with an effusion."""
    return [Case(path, path.stem, findings=("effusion",)) for path in sorted(folder.glob("*.png"))]


@pytest.fixture
def bring(monkeypatch):
    def brought(group, name, value):
        assert group in plugins.GROUPS
        point = EntryPoint(name, value, group)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == point.group else [])

    return brought


def test_organs_of_another_package(bring):
    radiograph = Radiograph(np.zeros((8, 8), np.float32), Path("x.png"))
    with pytest.raises(DataError, match="no organs 'halves'"):
        organ_regions("halves", radiograph.pixels, radiograph)
    bring("skiagraph.organs", "halves", f"{OURS}:halves")
    found = organ_regions("halves", radiograph.pixels, radiograph)
    assert found["right lung"][:, :4].all()
    assert not found["right lung"][:, 4:].any()


def test_a_reader_of_another_package(bring, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(source / f"{name}.png")
    with pytest.raises(DataError, match="no layout 'ours'; choose one of"):
        import_set("ours", source, tmp_path / "out", listen=silent)
    bring("skiagraph.layouts", "ours", f"{OURS}:read")
    manifest = import_set("ours", source, tmp_path / "out", listen=silent)
    assert sum(manifest["splits"].values()) == 3
    assert "effusion" in (tmp_path / "out/metadata.csv").read_text()


def test_a_domain_of_another_package(bring):
    bring("skiagraph.domains", "brought", "skiagraph.domains.colonoscopy:COLONOSCOPY")
    assert load_domain("brought").name == "colonoscopy"
