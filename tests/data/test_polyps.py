"""Words for polyps against drawn ones."""

import numpy as np
import pytest

import phantoms
from skiagraph.data.polyps import polyp_language, polyp_phrases
from skiagraph.errors import DataError


def drawn(axes, colour, side=128):
    y, x = np.mgrid[:side, :side] / side - 0.5
    mask = (x / axes[0]) ** 2 + (y / axes[1]) ** 2 < 1
    image = np.where(mask[..., None], colour, [0.7, 0.45, 0.4]).astype(np.float32)
    return image, mask


@pytest.mark.parametrize(
    ("axes", "colour", "words"),
    [
        ((0.1, 0.1), [0.7, 0.45, 0.4], ["small round polyp", "same colour as the mucosa", "evenly lit"]),
        ((0.4, 0.2), [0.8, 0.25, 0.2], ["large elongated polyp", "redder than the mucosa", "darker than the mucosa"]),
        (
            (0.2, 0.13),
            [0.9, 0.8, 0.75],
            ["medium-sized oval polyp", "paler than the mucosa", "brighter than the mucosa"],
        ),
    ],
)
def test_size_shape_tone_and_light_are_read_off(axes, colour, words):
    phrases = polyp_phrases(*drawn(axes, colour))
    assert phrases[:3] == words
    assert phrases[3] == "smooth surface"


def test_reflections_make_it_glossy_and_all_words_are_in_the_language():
    pixels, mask = phantoms.polyp(np.random.default_rng(0))
    phrases = polyp_phrases(pixels / 255, mask > 0)
    assert "glossy surface" in phrases
    assert set(phrases) <= set(polyp_language())


def test_a_polyp_that_fills_the_picture_has_nothing_around_it():
    assert polyp_phrases(np.full((32, 32, 3), 0.5), np.ones((32, 32), bool))[0] == "large round polyp"


def test_empty_masks_are_refused():
    with pytest.raises(DataError, match="not be empty"):
        polyp_phrases(np.zeros((8, 8, 3)), np.zeros((8, 8), bool))
