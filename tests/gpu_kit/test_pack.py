"""What the kit packs reads back as the same records with nearly the same pixels."""

import sys
from pathlib import Path

import numpy as np
import pytest

import phantoms
from skiagraph.data.datasets import load_records
from skiagraph.data.images import read_radiograph, square
from skiagraph.training.recipe import load_recipe

KIT = Path(__file__).parents[2] / "gpu-kit"
sys.path.insert(0, str(KIT))
from pack import pack_data  # noqa: E402


@pytest.fixture
def recipe(tmp_path):
    root = phantoms.dataset(tmp_path / "data")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"task: text_to_image\ndata: {{datasets: [phantoms], root: {root}, image_size: 64, fit: squash}}\n"
        "autoencoder: somewhere\ndenoiser: {preset: S/2}\noptim: {steps: 1, batch_size: 1, learning_rate: 1.0e-3}\n",
        encoding="utf-8",
    )
    return load_recipe(path)


def test_packed_data_read_as_the_recipes_own(tmp_path, recipe):
    quality = pack_data(recipe, tmp_path / "packed", megabytes=1)
    assert quality == 95
    packed = load_records(["phantoms"], tmp_path / "packed")
    wanted = [r for r in load_records(["phantoms"], recipe.data.root) if r.split != "test"]
    assert [(r.key, r.patient, r.split, r.labels, r.view, r.age) for r in packed] == [
        (r.key, r.patient, r.split, r.labels, r.view, r.age) for r in wanted
    ]
    for small, whole in zip(packed, wanted, strict=True):
        pixels = read_radiograph(small.path).pixels
        expected = square(read_radiograph(whole.path).pixels, 64, fit="squash")
        assert pixels.shape == (64, 64)
        assert np.abs(pixels - expected).mean() < 0.03


def test_images_that_cannot_fit_are_refused(tmp_path, recipe):
    with pytest.raises(SystemExit, match="do not fit"):
        pack_data(recipe, tmp_path / "packed", megabytes=0.0001)
