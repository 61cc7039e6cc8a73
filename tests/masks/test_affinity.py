import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.errors import MaskError
from skiagraph.masks.affinity import (
    EPSILON,
    affinities,
    affinity_loss,
    neighbour_offsets,
    random_walk,
    transition_matrix,
)
from skiagraph.masks.threshold import IGNORE


def pairs(height, width, radius):
    """All unordered pairs of pixels nearer than `radius`."""
    points = [(y, x) for y in range(height) for x in range(width)]
    for i, (y, x) in enumerate(points):
        for v, u in points[i + 1 :]:
            if (v - y) ** 2 + (u - x) ** 2 < radius**2:
                yield (y, x), (v, u)


def test_radius_five_has_34_offsets():
    assert len(neighbour_offsets(5)) == 34
    assert not {(-dy, -dx) for dy, dx in neighbour_offsets(5)} & set(neighbour_offsets(5))


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
def test_loss_and_matrix_equal_a_loop_over_pairs(height, width, radius):
    generator = torch.Generator().manual_seed(height * 7 + width)
    features = torch.randn(3, height, width, generator=generator).double()
    labels = torch.randint(0, 3, (height, width), generator=generator)
    labels[labels == 2] = IGNORE
    terms = {"bg": [], "fg": [], "neg": []}
    matrix = np.eye(height * width)
    for (y, x), (v, u) in pairs(height, width, radius):
        a = float(torch.exp(-(features[:, y, x] - features[:, v, u]).abs().mean()))
        i, j = y * width + x, v * width + u
        matrix[i, j] = matrix[j, i] = a**16
        p, q = int(labels[y, x]), int(labels[v, u])
        if IGNORE in (p, q):
            continue
        kind = "neg" if p != q else "fg" if p else "bg"
        terms[kind].append(-np.log((1 - a if kind == "neg" else a) + EPSILON))
    expected = sum(w * np.mean(terms[k]) for k, w in (("bg", 0.25), ("fg", 0.25), ("neg", 0.5)) if terms[k])
    assert float(affinity_loss(features[None], labels[None], radius)) == pytest.approx(expected, rel=1e-5)
    found = transition_matrix(features, radius=radius).toarray()
    np.testing.assert_allclose(found, matrix / matrix.sum(axis=0), rtol=1e-4, atol=1e-7)


def test_affinity_is_one_for_equal_features():
    assert all((a == 1).all() for _, a in affinities(torch.ones(1, 2, 7, 8)))


def test_walk_equals_squaring_and_spreads_within_a_region():
    features = torch.zeros(1, 8, 12)
    features[:, :, 6:] = 3.0
    transition = transition_matrix(features)
    scores = np.zeros((1, 8, 12))
    scores[0, 4, 2] = 1.0
    walked = random_walk(scores, transition)
    power = transition.toarray()
    for _ in range(8):
        power = power @ power
    np.testing.assert_allclose(walked.ravel(), scores.ravel() @ power, rtol=1e-5, atol=1e-9)
    assert walked[0, :, :6].min() > 1e3 * walked[0, :, 6:].max()
    with pytest.raises(MaskError, match="scores have 9 pixels"):
        random_walk(np.zeros((1, 3, 3)), transition)


def test_constant_scores_stay():
    """Columns sum to one, so a walk averages: it neither makes nor loses a level."""
    transition = transition_matrix(torch.randn(4, 6, 6))
    np.testing.assert_allclose(random_walk(np.full((1, 6, 6), 0.3), transition), 0.3, rtol=1e-5)
