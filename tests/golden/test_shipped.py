"""What the shipped weights give, in a few numbers: a change of code that changes them has to say so.

`SKIAGRAPH_GOLDEN=write pytest tests/golden` writes golden.json anew, after weights have changed.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from skiagraph.evaluation.features import EXTRACTOR, classify
from skiagraph.models.registry import load_component
from skiagraph.pipelines.counterfactual import EditSettings, edit_image
from skiagraph.pipelines.pairs import sample_with_maps
from skiagraph.pipelines.text_to_image import TextToImagePipeline

GOLDEN = Path(__file__).with_name("golden.json")
REPORT = "Large right pleural effusion. PA view of an adult."


def small(picture: np.ndarray, side: int = 8) -> np.ndarray:
    """Means over the squares of a coarse grid."""
    height, width = (s // side for s in picture.shape)
    return picture[: side * height, : side * width].reshape(side, height, side, width).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def pipeline():
    pipeline = TextToImagePipeline.load()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def image(pipeline):
    return pipeline(REPORT, seeds=[3], num_inference_steps=6).images[0]


def agree(name: str, values: np.ndarray, tolerance: float) -> None:
    values = np.asarray(values, float)
    known = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if os.environ.get("SKIAGRAPH_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps({**known, name: np.round(values, 4).tolist()}, indent=1) + "\n")
        return
    np.testing.assert_allclose(values, known[name], atol=tolerance, rtol=0)


def test_an_image(image):
    agree("image", small(image), 0.01)


def test_the_faithful_decoder_gives_the_image_back(pipeline, image):
    again = pipeline.decode(pipeline.encode(image[None]))[0]
    assert 10 * np.log10(1 / np.square(again - image).mean()) > 30


def test_a_pair(pipeline):
    pairs = sample_with_maps(pipeline, [REPORT], ["lung"], seeds=[3], steps=6)
    agree("map", small(pairs.heats[0, 0]), 0.02)


def test_an_edit(pipeline, image):
    roi = np.zeros(image.shape, bool)
    roi[150:230, 30:110] = True
    result = edit_image(
        pipeline, image, target="right lower consolidation", source="adult", words=["consolidation"], roi=roi,
        anatomy=roi, settings=EditSettings(steps=6),
    )  # fmt: skip
    agree("edit", small(result.image), 0.01)


def test_masks(image):
    pixels = torch.from_numpy(image)[None, None] * 2 - 1
    for name in ("lung-segmenter", "lung-segmenter-latent"):
        found = load_component(name).eval().segment(pixels)[0].numpy()
        agree(name, [(found == side).mean() for side in (1, 2)], 0.005)


def test_probabilities(image):
    _, probabilities = classify(load_component(EXTRACTOR), image[None])
    agree("classifier", [probabilities[n][0] for n in sorted(probabilities)], 0.02)
