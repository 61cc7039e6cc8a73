"""Use of synthetic pictures: right labels teach what real ones do, shuffled ones nothing."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import skiagraph.engine.utility as job
from skiagraph.data.datasets import Record
from skiagraph.engine.job import open_run
from skiagraph.engine.study import StudyConfig
from skiagraph.engine.utility import utility
from skiagraph.errors import EvaluationError
from skiagraph.progress import silent

CONFIG = StudyConfig("train", task="classify", steps=25, size=32)


def records(folder, count, seed, shuffled=False):
    """Grey pictures of which every second is white below, which is called an effusion."""
    folder.mkdir()
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        ill = number % 2
        pixels = rng.integers(60, 120, (32, 32)).astype(np.uint8)
        pixels[16:] = 230 if ill else pixels[16:]
        Image.fromarray(pixels).save(folder / f"{number}.png")
        said = rng.integers(2) if shuffled else ill
        labels = frozenset({"effusion" if said else "normal"})
        found.append(Record(folder.name, folder / f"{number}.png", f"{folder.name}{number}", "test", labels))
    return found


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {
        "real": records(root / "real", 40, 0), "train": records(root / "train", 30, 1),
        "synthetic": records(root / "synthetic", 24, 2), "shuffled": records(root / "shuffled", 24, 3, shuffled=True),
    }  # fmt: skip


def found(output, sets):
    with open_run(output, "evaluate", {}, listen=silent) as run:
        return utility(run, sets, CONFIG)


def test_right_labels_are_of_use_and_wrong_ones_are_not(sets, tmp_path, monkeypatch):
    section = found(tmp_path / "good", sets)
    values = {r.name: r for r in section.results}
    real, good = (values[f"AUROC, trained on 24 {kind}"] for kind in ("real", "synthetic"))
    assert min(real.value, good.value, values["AUROC, trained on 24 real and 24 synthetic"].value) > 0.9
    assert good.floor == real.value
    assert values["AUROC, trained on 24 synthetic less on 24 real"].details["seeds"] == 3
    wrong = {r.name: r for r in found(tmp_path / "wrong", {**sets, "synthetic": sets["shuffled"]}).results}
    assert wrong["AUROC, trained on 24 synthetic less on 24 real"].high < 0
    monkeypatch.setattr(job, "fit", lambda *a, **k: pytest.fail("trained again"))
    again = found(tmp_path / "good", sets)
    assert [r.to_dict() for r in again.results] == [r.to_dict() for r in section.results]


def test_pictures_without_labels_are_of_no_use(sets, tmp_path):
    bare = [replace(r, labels=frozenset()) for r in sets["synthetic"]]
    with pytest.raises(EvaluationError, match="--synthetic has no labels"):
        found(tmp_path / "o", {**sets, "synthetic": bare})
