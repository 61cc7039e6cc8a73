import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skiagraph.data.images import (
    SYNTHETIC_TEXT,
    read_picture,
    read_planes,
    read_radiograph,
    square,
    unsquare,
    write_png,
)
from skiagraph.errors import ImageError

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64).astype(np.float32)


def test_png_round_trip_and_label(tmp_path):
    write_png(tmp_path / "a.png", RAMP, text=SYNTHETIC_TEXT)
    assert np.abs(read_radiograph(tmp_path / "a.png").pixels - RAMP).max() <= 0.5 / 255 + 1e-6
    assert "Synthetic" in Image.open(tmp_path / "a.png").text


def test_sixteen_bit_png_keeps_its_scale(tmp_path):
    Image.fromarray((RAMP * 30000).astype(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.png").pixels, RAMP * 30000 / 65535, atol=1e-4)


def test_grey_in_colour_is_read_and_colour_refused(tmp_path):
    grey = (RAMP * 255).astype(np.uint8)
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "grey.png")
    assert read_radiograph(tmp_path / "grey.png").pixels.shape == (48, 64)
    Image.fromarray(np.stack([grey, 255 - grey, grey], -1)).save(tmp_path / "colour.png")
    with pytest.raises(ImageError, match="coloured"):
        read_radiograph(tmp_path / "colour.png")


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.9))
def test_truncated_files_are_named(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("cut")
    write_png(folder / "a.png", RAMP)
    whole = (folder / "a.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ImageError, match=r"b\.png cannot be read"):
        read_radiograph(folder / "b.png")


def test_missing_small_and_constant_files_are_named(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        read_radiograph(tmp_path)
    write_png(tmp_path / "small.png", RAMP[:10])
    with pytest.raises(ImageError, match="at least 32"):
        read_radiograph(tmp_path / "small.png")
    write_png(tmp_path / "flat.png", np.full((40, 40), 0.5))
    with pytest.raises(ImageError, match="constant"):
        read_radiograph(tmp_path / "flat.png")


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_square_is_square(fit):
    out = square(RAMP, 32, fit=fit)
    assert out.shape == (32, 32)
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize("bad", [RAMP * 2, RAMP - 1, RAMP * np.nan, (RAMP * 255).astype(np.uint8), RAMP[None]])
def test_pixels_out_of_range_are_refused(tmp_path, bad):
    with pytest.raises(ImageError):
        write_png(tmp_path / "a.png", bad)
    assert list(tmp_path.iterdir()) == []


def test_colours_are_read_plane_by_plane(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "c.png")
    planes = read_planes(tmp_path / "c.png", 3)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(planes, colours.transpose(2, 0, 1) / 255, atol=1e-6)
    with pytest.raises(ImageError, match="coloured"):
        read_planes(tmp_path / "c.png", 1)


def test_grey_pictures_have_equal_planes(tmp_path):
    write_png(tmp_path / "g.png", RAMP)
    sixteen = (RAMP * 65535).astype(np.uint16)
    Image.fromarray(sixteen).save(tmp_path / "s.png")
    for name in ("g", "s"):
        planes = read_planes(tmp_path / f"{name}.png", 3)
        assert planes.shape == (3, 48, 64)
        assert np.array_equal(planes[0], planes[2])
        assert np.array_equal(planes[:1], read_planes(tmp_path / f"{name}.png", 1))
        np.testing.assert_allclose(planes[1], RAMP, atol=1 / 255)


@pytest.mark.parametrize("content", [b"", b"GIF89a", "gone"])
def test_unreadable_colours_are_named(tmp_path, content):
    if content != "gone":
        (tmp_path / "c.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"c\.png"):
        read_planes(tmp_path / "c.png", 3)


def test_colour_pictures_keep_their_channels_from_file_to_file(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "c.png")
    pixels = read_picture(tmp_path / "c.png")
    assert pixels.shape == (40, 60, 3)
    write_png(tmp_path / "d.png", pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "d.png")), colours)
    Image.fromarray(colours[..., 0]).save(tmp_path / "g.png")
    assert read_picture(tmp_path / "g.png").shape == (40, 60)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40, 3), (50, 50)])
def test_unsquare_undoes_padding(shape):
    y, x = np.mgrid[: shape[0], : shape[1]] / 60
    pixels = (0.2 + 0.5 * x * y + 0.2 * x).astype(np.float32)
    pixels = np.stack([pixels, 1 - pixels, pixels / 2], axis=-1) if len(shape) == 3 else pixels
    back = unsquare(square(pixels, 120), shape[:2])
    assert back.shape == shape
    np.testing.assert_allclose(back[4:-4, 4:-4], pixels[4:-4, 4:-4], atol=0.01)
