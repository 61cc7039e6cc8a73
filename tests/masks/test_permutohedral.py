import numpy as np
import pytest

from skiagraph.masks.permutohedral import PermutohedralLattice

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dims", [2, 3, 5])
def test_filter_is_close_to_the_gaussian_sum(dims):
    """The lattice approximates; normalised by its own row sums, as a CRF does, it is within a few per cent."""
    points = RNG.uniform(0, 3, (400, dims))
    values = RNG.random((400, 2))
    kernel = np.exp(-0.5 * np.square(points[:, None] - points[None]).sum(axis=-1))
    exact = kernel @ values / kernel.sum(axis=1, keepdims=True)
    lattice = PermutohedralLattice(points)
    approximate = lattice.filter(values) / lattice.filter(np.ones((400, 1)))
    assert np.corrcoef(exact.ravel(), approximate.ravel())[0, 1] > 0.9
    assert np.abs(exact - approximate).mean() < 0.02


@pytest.mark.parametrize("dims", [1, 2, 3, 5])
def test_filter_is_linear_and_not_negative(dims):
    points = RNG.uniform(0, 5, (60, dims))
    lattice = PermutohedralLattice(points)
    matrix = lattice.filter(np.eye(60))
    assert (matrix >= 0).all()
    values = RNG.random((60, 3))
    np.testing.assert_allclose(lattice.filter(values), matrix @ values, rtol=1e-4, atol=1e-5)


def test_far_points_do_not_meet():
    lattice = PermutohedralLattice(np.array([[0.0, 0.0], [100.0, 0.0], [100.1, 0.0]]))
    response = lattice.filter(np.array([[1.0], [0.0], [0.0]]))[:, 0]
    assert response[0] > 0.1
    assert response[1] == response[2] == 0
