from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

import phantoms
from skiagraph.errors import MaskError
from skiagraph.masks.refine import label_map, refine, walk_heats
from skiagraph.masks.settings import RADIOGRAPHS

RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def case():
    """Image, mask, a heat map that covers half of each lung, and features that know the lungs' outline."""
    image, mask = phantoms.thorax(RNG, side=96)
    lungs = mask > 0
    heat = ndimage.gaussian_filter(lungs.astype(np.float32), 5)
    heat[:40] *= 0.55
    coarse = lungs[4::8, 4::8].astype(np.float32)
    return image, lungs, (heat / heat.max())[None], torch.from_numpy(coarse)[None] * 4


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_walk_fills_the_region_the_heat_only_touched(case):
    _, lungs, heats, features = case
    walked = walk_heats(heats, features)
    assert walked.shape == heats.shape
    assert walked[0][lungs].std() < 0.6 * heats[0][lungs].std()
    assert iou(walked[0] > 0.45, lungs) > iou(heats[0] > 0.45, lungs)


def test_refined_mask_is_better_than_the_raw_map(case):
    image, lungs, heats, features = case
    refined = refine(heats, image, features, replace(RADIOGRAPHS, thresholds=(0.3, 0.4, 0.5)))
    assert iou(refined.labels == 1, lungs) > max(0.9, iou(heats[0] > 0.5, lungs))
    assert refined.thresholds[0] in (0.3, 0.4, 0.5)
    assert refined.confidence == pytest.approx(iou(refined.labels == 1, refined.affinity == 1))


def test_a_class_that_is_nowhere_has_no_threshold(case):
    image, _, heats, features = case
    faint = np.concatenate([heats, 0.2 * heats])
    refined = refine(faint, image, features, replace(RADIOGRAPHS, thresholds=(0.4,)))
    assert refined.thresholds == (0.4, None)
    assert (refined.labels != 2).all()
    nothing = refine(0.2 * heats, image, features)
    assert (nothing.confidence, nothing.thresholds) == (0.0, (None,))
    assert not nothing.labels.any()


def test_label_map_takes_the_highest_score():
    scores = np.array([[[0.5, 0.6, 0.1]], [[0.6, 0.5, 0.2]]])
    assert label_map(scores, 0.45).tolist() == [[2, 1, 0]]


def test_constant_maps_are_refused(case):
    image, _, heats, features = case
    with pytest.raises(MaskError, match="constant"):
        refine(np.full_like(heats, 0.7), image, features)
