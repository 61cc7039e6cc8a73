import numpy as np
import pytest
from scipy.special import softmax

import phantoms
from skiagraph.errors import MaskError
from skiagraph.masks.crf import DenseCRF, dense_crf, unary_from_labels, unary_from_probabilities

RNG = np.random.default_rng(0)


def exact(unary, image, sxy, compat, b_sxy, schan, b_compat, iterations):
    """Algorithm 1 with the full pixel-by-pixel kernels."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width]
    place = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    tone = np.broadcast_to(np.atleast_3d(image), (height, width, 3)).reshape(-1, 3).astype(float)

    def kernel(*features):
        points = np.hstack(features)
        k = np.exp(-0.5 * np.square(points[:, None] - points[None]).sum(axis=-1))
        scale = 1 / np.sqrt(k.sum(axis=1))
        return scale[:, None] * k * scale

    smooth, look = kernel(place / sxy), kernel(place / b_sxy, tone / schan)
    cost = unary.reshape(len(unary), -1).T
    q = softmax(-cost, axis=1)
    for _ in range(iterations):
        q = softmax(-cost + compat * smooth @ q + b_compat * look @ q, axis=1)
    return q.T.reshape(unary.shape)


@pytest.mark.parametrize("colour", [False, True])
def test_mean_field_agrees_with_the_exact_one(colour):
    image, mask = phantoms.thorax(RNG, side=32)
    image = np.repeat(image[..., None], 3, axis=-1) if colour else image
    noisy = np.clip((mask > 0) * 0.4 + 0.3 + RNG.normal(0, 0.25, mask.shape), 0.05, 0.95)
    unary = unary_from_probabilities(np.stack([1 - noisy, noisy]))
    settings = {
        "gaussian_sxy": 2,
        "gaussian_compat": 2,
        "bilateral_sxy": 8,
        "bilateral_schan": 30,
        "bilateral_compat": 4,
    }
    ours = dense_crf(unary, image, **settings, iterations=5)
    theirs = exact(unary, image, 2, 2, 8, 30, 4, 5)
    np.testing.assert_allclose(ours.sum(axis=0), 1, atol=1e-5)
    assert ((ours[1] > 0.5) == (theirs[1] > 0.5)).mean() > 0.99
    assert ((ours[1] > 0.5) == (mask > 0)).mean() > 0.97 > ((noisy > 0.5) == (mask > 0)).mean()


def test_without_kernels_the_unary_term_stands():
    probabilities = RNG.random((3, 8, 9))
    probabilities /= probabilities.sum(axis=0)
    image = np.zeros((8, 9), np.uint8)
    q = dense_crf(unary_from_probabilities(probabilities), image, gaussian_compat=0, bilateral_compat=0)
    np.testing.assert_allclose(q, probabilities, atol=1e-4)


def test_unary_from_labels():
    labels = np.array([[0, 1], [2, 0]])
    p = np.exp(-unary_from_labels(labels, 3, certainty=0.7))
    np.testing.assert_allclose(p[:, 0, 0], [0.7, 0.15, 0.15], rtol=1e-5)
    np.testing.assert_allclose(p.sum(axis=0), 1, rtol=1e-5)
    for arguments in ((labels, 2, 0.7), (labels, 3, 1.0), (labels - 1, 3, 0.7)):
        with pytest.raises(MaskError):
            unary_from_labels(*arguments[:2], certainty=arguments[2])


def test_kernels_serve_any_number_of_unary_terms():
    image, _ = phantoms.thorax(RNG, side=32)
    crf = DenseCRF(image, bilateral_sxy=8)
    for labels in (2, 3):
        unary = unary_from_probabilities(RNG.dirichlet(np.ones(labels), (32, 32)).transpose(2, 0, 1))
        np.testing.assert_array_equal(crf.infer(unary), dense_crf(unary, image, bilateral_sxy=8))


def test_labels_are_alike_in_rank():
    """The last label's message is inferred from the others'; which label is last must not matter."""
    image, _ = phantoms.thorax(RNG, side=32)
    unary = unary_from_probabilities(RNG.dirichlet(np.ones(3), (32, 32)).transpose(2, 0, 1))
    crf = DenseCRF(image, bilateral_sxy=8)
    np.testing.assert_allclose(crf.infer(unary[::-1])[::-1], crf.infer(unary), atol=1e-4)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.float32), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)])
def test_images_of_another_type_are_refused(image):
    with pytest.raises(MaskError, match="expected uint8"):
        DenseCRF(image)


def test_unary_terms_of_another_size_are_refused():
    with pytest.raises(MaskError, match=r"expected \(labels, 8, 9\)"):
        dense_crf(np.zeros((2, 8, 8), np.float32), np.zeros((8, 9), np.uint8))


@pytest.mark.parametrize("colour", [False, True])
def test_agrees_with_the_reference_library(colour):
    reference = pytest.importorskip("pydensecrf.densecrf", reason="needs pydensecrf2, which needs a C++ compiler")
    image, mask = phantoms.thorax(RNG, side=96)
    image = image[..., None] * np.array([1.0, 0.8, 0.6]) if colour else image
    image = image.astype(np.uint8)
    noisy = np.clip((mask > 0) * 0.3 + 0.35 + RNG.normal(0, 0.2, mask.shape), 0.05, 0.95)
    unary = unary_from_probabilities(np.stack([1 - noisy, noisy]))
    crf = reference.DenseCRF2D(96, 96, 2)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(2, -1)))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    picture = np.ascontiguousarray(image if colour else np.repeat(image[..., None], 3, axis=-1))
    crf.addPairwiseBilateral(sxy=60, srgb=10, rgbim=picture, compat=9)
    theirs = np.array(crf.inference(10)).reshape(2, 96, 96)
    np.testing.assert_allclose(dense_crf(unary, image), theirs, atol=2e-3)
