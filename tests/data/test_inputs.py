"""Files and folders given to a verb, and the names of what is made of them."""

import numpy as np
import pytest
from PIL import Image

from dicom_files import write_dicom
from skiagraph.data.inputs import list_inputs
from skiagraph.errors import ImageError


@pytest.fixture
def folder(tmp_path):
    """Two pictures of one stem and two below."""
    for name in ("a.png", "a.jpg", "sub/a.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / name)
    return tmp_path


def test_names_are_places_without_suffix_unless_two_would_be_one(folder):
    assert {item.name for item in list_inputs([str(folder)], folder / "out").items} == {
        "a.png", "a.jpg", "sub/a", "sub/c"
    }  # fmt: skip


def test_the_last_part_of_a_uid_belongs_to_the_name(folder):
    for name in ("1.2.840.1", "1.2.840.2"):
        write_dicom(folder / name, Modality="CR")
    assert {"1.2.840.1", "1.2.840.2"} < {item.name for item in list_inputs([str(folder)], folder / "out").items}


def test_the_output_folder_is_no_input_and_other_files_are_listed(folder):
    (folder / "out").mkdir()
    (folder / "out/mask.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "out/manifest.json").write_text("{}")
    (folder / "notes.txt").write_text("words")
    found = list_inputs([str(folder)], folder / "out")
    assert all("out" not in item.name for item in found.items)
    assert list(found.passed_over) == [str(folder / "notes.txt")]


def test_a_file_that_is_named_is_tried_whatever_it_is(folder):
    (folder / "notes.txt").write_text("words")
    found = list_inputs([str(folder), str(folder / "notes.txt")], folder / "out")
    assert "notes.txt" in {item.name for item in found.items}
    assert found.passed_over == {}


def test_folders_without_pictures_say_why(tmp_path):
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ImageError, match=r"no pictures.*notes\.txt is no PNG"):
        list_inputs([str(tmp_path)], tmp_path / "out")
    with pytest.raises(ImageError, match="does not exist"):
        list_inputs([str(tmp_path / "gone")], tmp_path / "out")


def test_one_name_for_two_is_refused(folder):
    with pytest.raises(ImageError, match=r"2 inputs are named a\.png"):
        list_inputs([str(folder / "a.png"), str(folder / "sub/a.png")], folder / "out")
