"""What the tabs do before and after a job, without a browser."""

import numpy as np
import pytest
from PIL import Image

gr = pytest.importorskip("gradio")

from skiagraph.app.edit import _preview, _region  # noqa: E402
from skiagraph.app.evaluate import within  # noqa: E402
from skiagraph.app.generate import lines  # noqa: E402
from skiagraph.app.page import build  # noqa: E402
from skiagraph.app.runs import PROGRESS, Runs  # noqa: E402
from skiagraph.errors import DataError, ReportError  # noqa: E402


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 1000), np.uint8)).save(path)
    return str(path)


def test_what_was_drawn_becomes_a_mask_of_the_pictures_size(picture, tmp_path):
    shown = _preview(picture)["background"]
    assert max(shown.shape[:2]) <= 768
    layer = np.zeros((*shown.shape[:2], 4), np.uint8)
    layer[: len(layer) // 2, :, 3] = 255
    mask = np.asarray(Image.open(_region(picture, {"layers": [layer]}, tmp_path)))
    assert mask.shape == (400, 1000)
    assert mask[:198].all()
    assert not mask[202:].any()


@pytest.mark.parametrize("drawn", [None, {"layers": []}, {"layers": [np.zeros((8, 8, 4), np.uint8)]}])
def test_nothing_drawn_is_no_region(picture, tmp_path, drawn):
    assert _region(picture, drawn, tmp_path) is None


def test_a_file_that_is_no_radiograph_is_a_message(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(gr.Error, match=r"x\.png"):
        _preview(str(tmp_path / "x.png"))


def test_folders_are_found_below_the_roots_alone(tmp_path):
    first, second = tmp_path / "data", tmp_path / "runs"
    (first / "mine").mkdir(parents=True)
    second.mkdir()
    (second / "out").symlink_to("/")
    assert within("mine:test", first, second) == f"{first / 'mine'}:test"
    for outside in ("../runs", "/etc", "", "out", "none"):
        with pytest.raises(DataError, match="no folder"):
            within(outside, first)
    with pytest.raises(DataError, match="no folder"):
        within("out", second)


def test_runs_have_folders_of_their_own_and_stop_when_asked(tmp_path):
    runs = Runs(tmp_path / "runs")

    def work(folder, listen):
        folder.mkdir()
        with listen("making", 3) as update:
            update(1)
            runs.stop()
            update(2)

    with pytest.raises(gr.Error, match="what was finished is in the folder"):
        runs.start("generate", work, PROGRESS)
    again, value = runs.start("generate", lambda folder, listen: folder.mkdir() or 7, PROGRESS)
    assert value == 7
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert again.is_dir()


def test_bad_input_is_one_line(tmp_path):
    def work(folder, listen):
        raise ReportError("nothing\nunderstood")

    with pytest.raises(gr.Error, match="nothing understood"):
        Runs(tmp_path).start("generate", work, PROGRESS)


def test_empty_lines_are_no_reports():
    assert lines(" Effusion. \n\n Normal chest.\n") == ("Effusion.", "Normal chest.")


def test_the_page_has_a_tab_for_each_verb(tmp_path):
    tabs = [block.label for block in build(tmp_path / "runs", tmp_path).blocks.values() if isinstance(block, gr.Tab)]
    assert tabs == ["Generate", "Edit", "Pairs", "Segment", "Evaluate"]
