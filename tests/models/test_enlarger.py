"""Pictures of twice the side: what a new enlarger does, whose its grain is, and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.errors import ModelError
from skiagraph.models.enlarger import Enlarger, shrunk


def trained():
    torch.manual_seed(0)
    model = Enlarger(8, 1, 4)
    for module in (model.finish.layers[-1], model.body[2].conv2):
        torch.nn.init.normal_(module.weight, std=0.1)
    return model.eval()


@given(height=st.integers(1, 12), width=st.integers(1, 12))
@settings(max_examples=10, deadline=None)
def test_a_new_one_interpolates(height, width):
    images = torch.rand(2, 1, 2 * height, 2 * width) * 2 - 1
    expected = F.interpolate(images, scale_factor=2, mode="bicubic", align_corners=False)
    with torch.no_grad():
        torch.testing.assert_close(Enlarger(8, 1, 4)(images), expected)


def test_grain_is_its_generator_s():
    model, images = trained(), torch.zeros(2, 1, 8, 8)

    def seeded(*seeds):
        return [torch.Generator().manual_seed(s) for s in seeds]

    with torch.no_grad():
        one, other = model(images, seeded(1, 2))
        torch.testing.assert_close(model(images[:1], seeded(2))[0], other)
        assert not torch.allclose(one, other)
        first, second = model(images)
        torch.testing.assert_close(first, second)


def test_it_sees_what_is_near_alone():
    """A change in one corner leaves the other corner's detail, but for the layers' common mean and spread."""
    model, images = trained(), torch.rand(1, 1, 64, 64)
    images.requires_grad_()
    model(images)[0, 0, 0, 0].backward()
    reach = images.grad[0, 0].abs()
    assert reach[:8, :8].max() > 100 * reach[-8:, -8:].max()


def test_shrunk_is_the_mean_of_four():
    large = torch.arange(16.0).view(1, 1, 4, 4)
    np.testing.assert_array_equal(shrunk(large)[0, 0].numpy(), [[2.5, 4.5], [10.5, 12.5]])


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 1, 7, 8), (1, 8, 8)])
def test_other_shapes_are_named(shape):
    with pytest.raises(ModelError, match="expected"):
        Enlarger(8, 1, 4)(torch.zeros(shape))
