from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from skiagraph.errors import MaskError
from skiagraph.masks.settings import RADIOGRAPHS
from skiagraph.masks.threshold import (
    IGNORE,
    MINIMUM_SHARE,
    adaptive_threshold,
    confidence_bounds,
    confident_labels,
    threshold_masks,
)

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def phantom():
    """An image, its lung mask, and a coarse blurred heat map of it, as attention gives one."""
    image, mask = phantoms.thorax(RNG, side=96)
    coarse = ndimage.zoom(ndimage.gaussian_filter((mask > 0).astype(float), 3)[::6, ::6], 6, order=1)
    return image, mask > 0, (coarse / coarse.max()).clip(0, 1)


def test_bounds_leave_both_sides_enough_pixels(phantom):
    low, high = confidence_bounds(phantom[2])
    assert 0 < low < high < 1
    assert (phantom[2] > high).mean() >= MINIMUM_SHARE
    assert (phantom[2] < low).mean() >= MINIMUM_SHARE
    point = np.full((40, 40), 0.01)
    point[3, 4] = 1.0
    point += RNG.random(point.shape) * 0.005
    point /= point.max()
    _, high = confidence_bounds(point)
    assert (point > high).mean() >= MINIMUM_SHARE


def test_confident_labels_are_right_and_leave_the_border_open(phantom):
    image, mask, heat = phantom
    labels = confident_labels(heat[None], image)
    sure = labels != IGNORE
    assert sure.mean() > 0.5
    assert ((labels == 1) == mask)[sure].mean() > 0.97
    assert set(np.unique(labels)) <= {0, 1, IGNORE}


def test_classes_keep_their_labels(phantom):
    image, _, heat = phantom
    halves = np.stack([np.where(np.arange(96) < 48, heat, 0), np.where(np.arange(96) >= 48, heat, 0)])
    labels = confident_labels(halves, image)
    assert (labels[:, :48] != 2).all()
    assert (labels[:, 48:] != 1).all()
    assert {1, 2} <= set(np.unique(labels))


def test_the_threshold_that_fits_best_is_chosen(phantom):
    image, mask, heat = phantom
    masks = threshold_masks(heat, image, replace(RADIOGRAPHS, thresholds=(0.2, 0.45, 0.8)))
    sizes = [m.sum() for m in masks.values()]
    assert sizes == sorted(sizes, reverse=True)
    threshold, overlap = adaptive_threshold(masks, mask)
    overlaps = {t: (m & mask).sum() / (m | mask).sum() for t, m in masks.items()}
    assert overlap == max(overlaps.values()) == overlaps[threshold]
    raw = heat > threshold
    assert overlap > (raw & mask).sum() / (raw | mask).sum()


def test_maps_without_information_are_refused(phantom):
    _, mask, heat = phantom
    for bad in (np.full((96, 96), 0.3), heat * 2, heat[None]):
        with pytest.raises(MaskError):
            confidence_bounds(bad)
    with pytest.raises(MaskError, match="empty"):
        adaptive_threshold({0.5: mask}, np.zeros_like(mask))
