import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.masks.permutohedral import PermutohedralLattice, _HashTable

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dims", [2, 3, 5])
def test_filter_is_close_to_the_gaussian_sum(dims):
    """The lattice approximates; normalised by its own row sums, as a CRF does, it is within a few per cent."""
    points = RNG.uniform(0, 3, (400, dims))
    values = RNG.random(400, np.float32)
    kernel = np.exp(-0.5 * np.square(points[:, None] - points[None]).sum(axis=-1))
    exact = kernel @ values / kernel.sum(axis=1)
    lattice = PermutohedralLattice(points.T)
    approximate = lattice.filter(values) / lattice.filter(np.ones(400, np.float32))
    assert np.corrcoef(exact, approximate)[0, 1] > 0.9
    assert np.abs(exact - approximate).mean() < 0.02


@pytest.mark.parametrize("dims", [1, 2, 3, 5])
def test_filter_is_linear_and_not_negative(dims):
    lattice = PermutohedralLattice(RNG.uniform(0, 5, (dims, 60)))
    matrix = np.stack([lattice.filter(unit) for unit in np.eye(60, dtype=np.float32)], axis=1)
    assert (matrix >= 0).all()
    values = RNG.random(60, np.float32)
    np.testing.assert_allclose(lattice.filter(values), matrix @ values, rtol=1e-4, atol=1e-5)


def test_far_points_do_not_meet():
    lattice = PermutohedralLattice(np.array([[0.0, 100.0, 100.1], [0.0, 0.0, 0.0]]))
    response = lattice.filter(np.array([1.0, 0.0, 0.0], np.float32))
    assert response[0] > 0.1
    assert response[1] == response[2] == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=4, max_size=200), st.integers(1, 9))
def test_hash_table_finds_what_sorting_would(values, step):
    keys = np.array(values[: len(values) // 2 * 2], np.int64).reshape(2, -1) * 2**40
    table = _HashTable(keys)
    distinct = table._keys
    assert sorted(distinct) == np.unique(keys).tolist()
    assert (distinct[table.places.T] == keys).all()
    for place, (ahead, behind) in enumerate(zip(*table.neighbours(step * 2**40), strict=True)):
        for neighbour, wanted in ((ahead, distinct[place] + step * 2**40), (behind, distinct[place] - step * 2**40)):
            assert (distinct[neighbour] == wanted) if wanted in distinct else (neighbour == len(table))
