"""DICOM as archives hold it: compressed, bare, inverted, windowed or not, and what is no frontal radiograph."""

import importlib.util

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)  # fmt: skip

from dicom_files import STORED, write_dicom
from skiagraph.data.images import list_pictures, read_picture, read_radiograph
from skiagraph.errors import ImageError

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64).astype(np.float32)
SEEN = ((RAMP - 0.005) / 0.99).clip(0, 1)
"""The ramp between its robust percentiles."""


def has(*modules):
    return all(importlib.util.find_spec(name) for name in modules)


def write_rgb(path, colours):
    rgb = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    return write_dicom(path, colours * 255, PhotometricInterpretation="RGB", Modality="OT", **rgb)


def compressed(path, syntax):
    dataset = pydicom.dcmread(write_dicom(path))
    dataset.compress(syntax)
    dataset.save_as(path)
    return path


def test_rescale_inversion_and_view(tmp_path):
    plain = read_radiograph(
        write_dicom(tmp_path / "a", ViewPosition="PA", RescaleSlope=2, RescaleIntercept=-100, Modality="DX")
    )
    assert plain.view == "PA"
    np.testing.assert_allclose(plain.pixels, SEEN, atol=1e-3)
    inverted = read_radiograph(write_dicom(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(inverted.pixels, 1 - SEEN, atol=1e-3)
    negative = read_radiograph(write_dicom(tmp_path / "c.dcm", RescaleSlope=-1, RescaleIntercept=4095))
    np.testing.assert_allclose(negative.pixels, 1 - SEEN, atol=1e-3)


def test_a_window_clips(tmp_path):
    pixels = read_radiograph(write_dicom(tmp_path / "a.dcm", WindowCenter=2048, WindowWidth=1000)).pixels
    assert (pixels[RAMP < 0.3] == 0).all()
    assert (pixels[RAMP > 0.7] == 1).all()


def test_an_empty_window_is_none(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", WindowCenter=None, WindowWidth=None)
    np.testing.assert_allclose(read_radiograph(path).pixels, SEEN, atol=1e-3)


def test_a_few_bright_pixels_do_not_darken_the_rest(tmp_path):
    values = np.random.default_rng(0).integers(500, 1000, (200, 200)).astype(float)
    clean = read_radiograph(write_dicom(tmp_path / "a.dcm", values)).pixels
    values[:4, :4] = 4095
    marked = read_radiograph(write_dicom(tmp_path / "b.dcm", values)).pixels
    assert np.abs(marked - clean)[4:].max() < 0.02
    assert (marked[:4, :4] == 1).all()


def test_padding_sets_no_limits(tmp_path):
    values = STORED / 8 + 3000
    values[:, :20] = 0
    pixels = read_radiograph(write_dicom(tmp_path / "a.dcm", values, PixelPaddingValue=0)).pixels
    assert (pixels[:, :20] == 0).all()
    assert np.ptp(pixels[:, 20:]) > 0.99


def test_pictures_that_are_nearly_black_keep_their_one_bright_place(tmp_path):
    values = np.zeros((200, 200))
    values[0, :9] = 100
    assert read_radiograph(write_dicom(tmp_path / "a.dcm", values)).pixels[0, 0] == 1


@pytest.mark.parametrize("name", ["bare", "bare.dcm", "1.2.840.1"])
def test_files_without_preamble_are_known_by_content(tmp_path, name):
    path = write_dicom(tmp_path / name, meta=False, Modality="CR")
    assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_allclose(read_radiograph(path).pixels, SEEN, atol=1e-3)
    assert list_pictures(tmp_path).pictures == (path,)


def test_screenshots_become_grey_and_colours_stay(tmp_path):
    grey = write_rgb(tmp_path / "grey.dcm", np.repeat(RAMP[..., None], 3, axis=-1))
    np.testing.assert_allclose(read_radiograph(grey).pixels, RAMP, atol=1 / 255)
    colour = write_rgb(tmp_path / "colour.dcm", np.stack([RAMP, 1 - RAMP, RAMP], axis=-1))
    with pytest.raises(ImageError, match="coloured"):
        read_radiograph(colour)
    assert read_picture(colour).shape == (48, 64, 3)


def test_run_lengths_are_decoded(tmp_path):
    np.testing.assert_allclose(read_radiograph(compressed(tmp_path / "a.dcm", RLELossless)).pixels, SEEN, atol=1e-3)


@pytest.mark.skipif(not has("pylibjpeg", "openjpeg"), reason="needs the extra dicom-jpeg")
def test_jpeg_2000_is_decoded(tmp_path):
    path = compressed(tmp_path / "a.dcm", JPEG2000Lossless)
    np.testing.assert_allclose(read_radiograph(path).pixels, SEEN, atol=1e-3)


@pytest.mark.skipif(not has("pylibjpeg", "libjpeg"), reason="needs the extra dicom-jpeg")
def test_lossless_jpeg_is_decoded():
    path = get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    expected = pydicom.dcmread(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm", download=False)).pixel_array
    assert np.abs(read_picture(path) - expected / 255).mean() < 0.05


def test_a_missing_decoder_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("skiagraph.data.dicom._decodable", lambda syntax: False)
    path = compressed(tmp_path / "a.dcm", RLELossless)
    with pytest.raises(ImageError, match=r"compressed as RLE Lossless.*pip install 'skiagraph\[dicom-jpeg\]'"):
        read_radiograph(path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"Modality": "CT"}, "is CT, not a radiograph"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "is PALETTE COLOR"),
    ],
)
def test_what_is_no_single_radiograph_is_named(tmp_path, tags, message):
    with pytest.raises(ImageError, match=message):
        read_radiograph(write_dicom(tmp_path / "a.dcm", **tags))


def test_files_without_pixels_are_named(tmp_path):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm"))
    del dataset.PixelData
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match=r"a\.dcm has no pixels"):
        read_radiograph(tmp_path / "a.dcm")
    with pytest.raises(ImageError, match="is SR, not a radiograph"):
        read_radiograph(get_testdata_file("test-SR.dcm", download=False))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.95])
def test_truncated_files_are_named(tmp_path, share):
    whole = write_dicom(tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ImageError, match=r"a\.dcm"):
        read_radiograph(tmp_path / "a.dcm")


def test_a_name_alone_makes_no_dicom(tmp_path):
    (tmp_path / "a.dcm").write_text("not a picture " * 20)
    with pytest.raises(ImageError, match="named like DICOM"):
        read_radiograph(tmp_path / "a.dcm")


def test_a_folder_is_listed_with_what_was_passed_over_and_why(tmp_path):
    (tmp_path / "sub").mkdir()
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(tmp_path / "b.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes((tmp_path / "b.png").read_bytes()[:20])
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes((tmp_path / "b.png").read_bytes())
    (tmp_path / "DICOMDIR").touch()
    (tmp_path / "contact-sheet.png").write_bytes((tmp_path / "b.png").read_bytes())
    frontal = write_dicom(tmp_path / "sub/1.2.3", Modality="DX", ViewPosition="AP")
    write_dicom(tmp_path / "sub/ct", Modality="CT")
    write_dicom(tmp_path / "sub/side", Modality="CR", ViewPosition="LL")
    empty = pydicom.dcmread(write_dicom(tmp_path / "sub/empty"))
    del empty.PixelData
    empty.save_as(tmp_path / "sub/empty")
    listing = list_pictures(tmp_path)
    assert listing.pictures == (tmp_path / "b.png", broken, frontal), "a damaged picture is to be heard of"
    reasons = {str(path.relative_to(tmp_path)): reason for path, reason in listing.passed_over.items()}
    words = {
        ".hidden.png": "hidden", "DICOMDIR": "index", "notes.txt": "no PNG",
        "contact-sheet.png": "sheet of pictures",
        "sub/ct": "is CT", "sub/side": "lateral view", "sub/empty": "no pixels",
    }  # fmt: skip
    assert reasons.keys() == words.keys()
    for name, word in words.items():
        assert word in reasons[name]
        assert name in reasons[name]
    with pytest.raises(ImageError, match="does not exist"):
        list_pictures(tmp_path / "gone")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [1, 1]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": [0.143, 0.143]}, (0.143, 0.143)),
        ({"PixelSpacing": [0, 0]}, None),
        ({}, None),
    ],
)
def test_spacing_is_read_where_it_is_said(tmp_path, tags, expected):
    radiograph = read_radiograph(write_dicom(tmp_path / "a.dcm", **tags))
    assert radiograph.spacing == expected
    assert radiograph.bits == 16
