import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from phantoms import thorax
from skiagraph.data.chest.markers import marker_mask


def with_letter(pixels, place, brightness):
    """The picture with an "L" of a fifteenth of its side, and where the letter is."""
    drawn = Image.new("L", pixels.shape[::-1])
    ImageDraw.Draw(drawn).text(place, "L", fill=255, font=ImageFont.load_default(size=pixels.shape[0] // 10))
    letter = np.asarray(drawn) / 255
    return np.maximum(pixels, letter * brightness), letter > 0.5


@pytest.mark.parametrize("side", [256, 512])
@pytest.mark.parametrize("over", [0.3, 0.8])
def test_a_letter_is_found_and_little_else(side, over):
    background = np.full((side, side), 0.15)
    image, letter = with_letter(background, (0.8 * side, 0.05 * side), 0.15 + over)
    found = marker_mask(image)
    assert found.shape == image.shape
    assert found[letter].mean() > 0.99
    assert found.mean() < 0.02


def test_a_device_in_a_lung_is_found():
    pixels, mask = thorax(np.random.default_rng(0), 256)
    image = pixels / 255
    y, x = np.argwhere(mask > 0).mean(axis=0).astype(int)
    x = int(np.argwhere(mask[y] > 0)[0, 0]) + 30
    image[y - 10 : y + 10, x - 8 : x + 8] = 1
    assert marker_mask(image)[y - 10 : y + 10, x - 8 : x + 8].all()


def test_a_body_has_none():
    pixels, _ = thorax(np.random.default_rng(0), 256)
    assert marker_mask(pixels / 255).mean() < 0.01
    assert not marker_mask(np.full((64, 64), 0.5)).any()


def test_long_things_are_ribs():
    image = np.full((256, 256), 0.2)
    image[60:200, 100:106] = 0.7
    assert not marker_mask(image).any()
