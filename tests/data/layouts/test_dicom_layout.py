"""Data sets as DICOM: what is written is read again, and a checker of the standard finds no error in it."""

import csv
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image

from skiagraph.data.dicom import read_dicom
from skiagraph.data.dicom_image import write_derived_dicom
from skiagraph.data.images import SYNTHETIC_TEXT
from skiagraph.data.layouts import dicom
from skiagraph.data.layouts.case import Case
from skiagraph.data.masks import write_mask
from skiagraph.errors import DataError

CLASSES = ("right lung", "left lung")
SHAPE = (40, 56)


@pytest.fixture
def cases(tmp_path):
    """A synthetic picture with mask and report, and a real one of a child with neither."""
    pytest.importorskip("highdicom")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, SHAPE, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    write_mask(tmp_path / "m.png", rng.integers(0, 3, SHAPE, dtype=np.uint8), CLASSES)
    return {
        "a": Case(tmp_path / "a.png", "p/1", "train", ("edema",), view="PA", age=54.0, sex="female",
                  report="Pulmonary edema.", mask=tmp_path / "m.png", synthetic=True),
        "b": Case(tmp_path / "b.png", "p2", "test", age=0.5, sex="male"),
    }  # fmt: skip


def errors_of(path):
    """What dciodvfy calls an error in a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]


def test_there_and_back_again(cases, tmp_path):
    files = list(dicom.write(cases, tmp_path / "o", CLASSES))
    assert files == [("p_1/a.dcm", "p_1/a-mask.dcm"), ("p2/b.dcm", "")]
    back = {case.image.stem: case for case in dicom.read(tmp_path / "o")}
    assert back.keys() == {"a", "b"}
    for name, case in back.items():
        given = cases[name]
        assert (case.patient, case.view, case.age, case.sex, case.report, case.synthetic) == (
            given.patient, given.view, given.age, given.sex, given.report, given.synthetic,
        )  # fmt: skip
        pixels = read_dicom(case.image)[0]
        np.testing.assert_allclose(pixels, np.asarray(Image.open(given.image)) / 255, atol=1e-3)
    assert back["a"].classes == CLASSES
    assert np.array_equal(back["a"].mask(), np.asarray(Image.open(tmp_path / "m.png")))
    assert back["b"].mask is None


def test_synthetic_pictures_say_so_and_masks_who_drew_them(cases, tmp_path):
    list(dicom.write(cases, tmp_path / "o", CLASSES))
    made, real = (pydicom.dcmread(tmp_path / "o" / file) for file in ("p_1/a.dcm", "p2/b.dcm"))
    assert SYNTHETIC_TEXT["Synthetic"] in made.ImageComments
    assert (made.ConversionType, real.ConversionType) == ("SYN", "WSD")
    assert "ynthetic" not in str(real)
    assert pydicom.dcmread(tmp_path / "o/p_1/a-mask.dcm").SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    drawn = {"a": Case(cases["a"].image, "p", mask=cases["a"].mask)}
    list(dicom.write(drawn, tmp_path / "drawn", CLASSES))
    assert pydicom.dcmread(tmp_path / "drawn/p/a-mask.dcm").SegmentSequence[0].SegmentAlgorithmType == "MANUAL"


def test_no_name_of_a_patient_leads_out_of_the_folder(cases, tmp_path):
    given = {"x": Case(cases["b"].image, "..")}
    assert list(dicom.write(given, tmp_path / "o", ())) == [("unnamed/x.dcm", "")]


def test_the_same_picture_gets_the_same_uids(cases, tmp_path):
    for folder in ("o", "again"):
        list(dicom.write(cases, tmp_path / folder, CLASSES))
    uids = [
        [pydicom.dcmread(p).SOPInstanceUID for p in sorted((tmp_path / f).rglob("*[ab].dcm"))] for f in ("o", "again")
    ]
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 2


def test_the_standard_is_kept(cases, tmp_path):
    list(dicom.write(cases, tmp_path / "o", CLASSES))
    write_derived_dicom(tmp_path / "o/edit.dcm", tmp_path / "o/p2/b.dcm", np.zeros(SHAPE), "a -> b", "1.2.3")
    files = sorted((tmp_path / "o").rglob("*.dcm"))
    assert len(files) == 5
    assert {path.name: errors for path in files if (errors := errors_of(path))} == {}


def test_colours_and_sixteen_bits(tmp_path):
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    Image.fromarray(rng.integers(0, 65536, SHAPE, dtype=np.uint16)).save(tmp_path / "d.png")
    given = {name: Case(tmp_path / f"{name}.png", name) for name in ("c", "d")}
    list(dicom.write(given, tmp_path / "o", ()))
    np.testing.assert_allclose(read_dicom(tmp_path / "o/c/c.dcm")[0] * 255, np.asarray(Image.open(given["c"].image)))
    pixels = np.asarray(Image.open(given["d"].image)) / 65535
    np.testing.assert_allclose(read_dicom(tmp_path / "o/d/d.dcm")[0], pixels, atol=1 / 2048)
    assert [errors_of(path) for path in sorted((tmp_path / "o").rglob("*.dcm"))] == [[], []]


def test_a_folder_without_radiographs(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataError, match="holds no DICOM radiograph"):
        dicom.read(tmp_path)


def test_export_and_import(cases, tmp_path):
    from skiagraph.engine.exchange import export_set, import_set
    from skiagraph.progress import silent

    with open(tmp_path / "metadata.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "patient", "split", "report", "mask", "labels"])
        writer.writerow(["a.png", "p1", "train", "Edema.", "m.png", "edema"])
        writer.writerow(["b.png", "p2", "test", "", "", ""])
    export_set(str(tmp_path), "dicom", tmp_path / "o", listen=silent)
    assert '"application/dicom"' in (tmp_path / "o/croissant.json").read_text()
    manifest = import_set("dicom", tmp_path / "o", tmp_path / "back", listen=silent)
    assert manifest["counts"] == {"pictures": 2, "patients": 2, "synthetic": 0, "masks": 1}
    mask = np.asarray(Image.open(tmp_path / "back/masks/a.png"))
    assert np.array_equal(mask, np.asarray(Image.open(tmp_path / "m.png")))
