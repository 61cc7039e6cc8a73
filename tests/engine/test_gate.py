"""The gate's measures against pictures whose answer is known."""

import numpy as np
import pytest
from scipy import ndimage

import phantoms
import tiny
from skiagraph.engine.gate import BORDER, Gate, GateConfig, border_gradient, judged_dice


def disc(side=64, radius=20):
    y, x = np.mgrid[:side, :side] - side / 2
    return np.hypot(x, y) < radius


@pytest.fixture(scope="module")
def real():
    cases = [phantoms.thorax(np.random.default_rng(seed)) for seed in range(8)]
    return [(pixels.astype(np.float32) / 255, mask > 0) for pixels, mask in cases]


def test_a_step_across_the_border_is_a_slope_and_one_along_it_is_not():
    mask = disc()
    step = np.where(mask, 0.7, 0.3).astype(np.float32)
    # A smoothed step climbs its height within the 2 BORDER pixels that are looked at.
    assert border_gradient(step, mask) == pytest.approx(0.4 / (2 * BORDER), rel=0.15)
    y, x = np.mgrid[:64, :64] - 31.5
    along = (0.5 + 0.3 * np.sin(4 * np.arctan2(y, x))).astype(np.float32)
    assert border_gradient(along, mask) < 0.1 * border_gradient(step, mask) + 0.01
    assert border_gradient(np.repeat(step[..., None], 3, axis=-1), mask) == pytest.approx(border_gradient(step, mask))
    assert border_gradient(step, np.ones_like(mask)) == 0


def test_each_fault_is_named_with_its_number(real):
    gate = Gate(GateConfig(), real, None)
    image, mask = real[0]
    assert gate.fault(gate.measure(image, image, mask)).startswith("unchanged: mean change inside the mask 0.0000")
    cut = np.where(mask, 0.0, image).astype(np.float32)
    found = gate.measure(image, cut, mask)
    assert found["outside"] == 0
    assert gate.fault(found).startswith("seam: gradient across the border")
    soft = image + 0.1 * ndimage.gaussian_filter(ndimage.binary_erosion(mask, iterations=5).astype(np.float32), 2)
    assert gate.fault(gate.measure(image, soft.astype(np.float32), mask)) is None


def test_the_judge_decides_whether_the_mask_still_holds(real):
    image, mask = real[0]
    judge = tiny.lung_segmenter()
    value = judged_dice(judge, image, mask)
    assert 0 <= value <= 1
    assert judged_dice(judge, np.repeat(image[..., None], 3, axis=-1), mask) == pytest.approx(value, abs=0.02)
    strict = Gate(GateConfig(least_change=0, least_dice=1.01), real, judge)
    assert strict.fault(strict.measure(image, image, mask)).startswith(f"mask: Dice with the judge's mask {value:.3f}")
