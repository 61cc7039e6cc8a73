"""Views of training images: what they count, for fresh and for cached ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import phantoms
import tiny
from skiagraph.data.datasets import load_records
from skiagraph.domains.domain import load_domain
from skiagraph.training.views import FULL, counted_where, make_views


def upper_right(image):
    found = np.zeros(image.shape, bool)
    found[: len(image) // 4, -len(image) // 4 :] = True
    return found


def test_a_latent_pixel_counts_where_nothing_of_it_is_a_marker():
    markers = torch.zeros(1, 1, 16, 16)
    markers[0, 0, 3, 4] = 1
    markers[0, 0, 12, 12] = 0.05
    expected = torch.ones(4, 4)
    expected[0, 1] = 0
    assert torch.equal(counted_where(markers, 4)[0, 0], expected)


@pytest.mark.parametrize("fresh", [True, False])
def test_views_do_not_count_what_the_domain_calls_markers(tmp_path, fresh):
    records = load_records(["phantoms"], phantoms.dataset(tmp_path / "data"), splits=["train"])[:3]
    network = tiny.autoencoder() if fresh else tiny.colour_autoencoder()

    def batch(markers):
        domain = replace(load_domain("chest"), markers=markers)
        views = make_views(
            records, 64, "squash", network, lambda images: images[:, 0] * 0, None, 0, domain,
            cache=tmp_path / f"{markers is None}.safetensors", identity="",
        )  # fmt: skip
        return views.batch(torch.tensor([0, 2]), torch.tensor([FULL, FULL]), torch.Generator().manual_seed(0))

    found = batch(upper_right)
    side = found.moments.shape[-1]
    assert found.counted.shape == (2, 1, side, side)
    assert not found.counted[:, :, : side // 4, -side // 4 :].any()
    assert found.counted.sum() == 2 * side**2 * 15 / 16
    assert batch(None).counted.all()
