"""A study out of a real archive, masks into it: Orthanc on this machine, where it is installed."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid

import phantoms
from dicom_files import write_dicom
from skiagraph.engine.archive import pull, push
from skiagraph.engine.segment import SegmentConfig, segment
from skiagraph.errors import DataError, ImageError, SkiagraphError
from skiagraph.progress import silent

pytest.importorskip("dicomweb_client")

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Address of an Orthanc that starts empty."""
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        pytest.skip("no Orthanc with DICOMweb on this machine")
    folder = tmp_path_factory.mktemp("orthanc")
    http, dicom = _free_port(), _free_port()
    config = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": http, "DicomPort": dicom,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True}, "AuthenticationEnabled": False,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(config))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(["Orthanc", folder / "orthanc.json"], **quiet)
    url = f"http://127.0.0.1:{http}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{url}/system", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"{url}/dicom-web"
    finally:
        server.terminate()
        server.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def study(tmp_path):
    """Two drawn thoraces of one study in two series, and its UID."""
    uid = generate_uid()
    for number in range(2):
        pixels = np.asarray(Image.fromarray(phantoms.thorax(np.random.default_rng(number))[0]).resize((96, 96)))
        write_dicom(
            tmp_path / f"study/{number}.dcm", pixels.astype(float) * 16, StudyInstanceUID=uid, Modality="DX",
            SeriesInstanceUID=generate_uid(), PatientID="p1", PatientName="Phantom", PatientBirthDate="",
            PatientSex="", StudyDate="", StudyTime="", StudyID="1", AccessionNumber="", ReferringPhysicianName="",
            SeriesNumber=str(number + 1), InstanceNumber="1", WindowCenter=2048, WindowWidth=4096,
        )  # fmt: skip
    return tmp_path / "study", uid


def test_a_study_is_pulled_segmented_and_its_masks_are_stored(archive, study, tmp_path):
    pytest.importorskip("highdicom")
    folder, uid = study
    assert len(push(archive, [folder], listen=silent)["stored"]) == 2
    rows = pull(archive, uid, tmp_path / "pulled", listen=silent)["images"]
    sent = sorted(pydicom.dcmread(f).pixel_array.tobytes() for f in folder.iterdir())
    assert sorted(pydicom.dcmread(tmp_path / "pulled" / row["file"]).pixel_array.tobytes() for row in rows) == sent

    config = SegmentConfig((str(tmp_path / "pulled"),), form="dicom-seg", check=False)
    masks = segment(config, tmp_path / "seg", listen=silent)["images"]
    assert len(masks) == 2
    assert len(push(archive, [tmp_path / "seg"], listen=silent)["stored"]) == 2
    again = pull(archive, uid, tmp_path / "again", listen=silent)["images"]
    assert sorted(row["modality"] for row in again) == ["DX", "DX", "SEG", "SEG"]
    returned = {pydicom.dcmread(tmp_path / "again" / row["file"]).SOPInstanceUID: row["file"] for row in again}
    for row in masks:
        sent = pydicom.dcmread(tmp_path / "seg" / row["mask"])
        found = pydicom.dcmread(tmp_path / "again" / returned[sent.SOPInstanceUID])
        assert np.array_equal(found.pixel_array, sent.pixel_array)


def test_pulling_again_asks_for_what_is_missing_alone(archive, study, tmp_path, monkeypatch):
    from dicomweb_client import DICOMwebClient

    folder, uid = study
    push(archive, [folder], listen=silent)
    rows = pull(archive, uid, tmp_path / "pulled", listen=silent)["images"]
    (tmp_path / "pulled" / rows[0]["file"]).write_bytes(b"cut")
    asked, retrieve = [], DICOMwebClient.retrieve_instance
    monkeypatch.setattr(
        DICOMwebClient, "retrieve_instance", lambda self, *uids: asked.append(uids[2]) or retrieve(self, *uids)
    )
    pull(archive, uid, tmp_path / "pulled", listen=silent)
    assert asked == [Path(rows[0]["file"]).stem]


def test_what_goes_wrong_is_one_line(archive, study, tmp_path):
    with pytest.raises(DataError, match=r"has no study 1\.2\.3"):
        pull(archive, "1.2.3", tmp_path / "o", listen=silent)
    with pytest.raises(SkiagraphError, match="no archive answers at http://127"):
        pull(f"http://127.0.0.1:{_free_port()}/dicom-web", "1.2.3", tmp_path / "o", listen=silent)
    assert not (tmp_path / "o").exists()


def test_what_is_no_archive_or_no_dicom_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ImageError, match="is no DICOM file"):
        push("http://127.0.0.1:1/dicom-web", [tmp_path], listen=silent)
    with pytest.raises(ImageError, match="does not exist"):
        push("http://127.0.0.1:1/dicom-web", [tmp_path / "none"], listen=silent)
    with pytest.raises(DataError, match="is no address of an archive"):
        pull("archive", "1.2.3", tmp_path / "o", listen=silent)
