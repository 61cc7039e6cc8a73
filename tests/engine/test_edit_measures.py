"""Edits that do what was asked are told from those that do not, each by the number that is meant for it."""

import numpy as np
import pytest
from PIL import Image

import tiny
from skiagraph.data.edit_sets import EditPair
from skiagraph.engine.edit_measures import EditMeasures, edits, measured_edits
from skiagraph.engine.job import open_run
from skiagraph.errors import ImageError
from skiagraph.evaluation.extractors import load_extractor
from skiagraph.progress import silent

SIDE, COUNT = 256, 5


class BrightBase:
    """A judge of "effusion": how bright the lower right corner is."""

    name = "corner"

    def __call__(self, images):
        return {"effusion": images[:, 160:, :96].mean(axis=(1, 2))}


@pytest.fixture(scope="module")
def originals():
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.2, 0.5, (COUNT, 16, 16))
    return np.kron(coarse, np.ones((16, 16))).astype(np.float32)


def write(folder, before, after, region, *, come=("effusion",), go=()):
    folder.mkdir()
    pairs = []
    for index, (a, b) in enumerate(zip(before, after, strict=True)):
        paths = [folder / f"{index}-{name}.png" for name in ("before", "after", "region")]
        for path, image in zip(paths, (a, b, region), strict=True):
            Image.fromarray(np.round(np.asarray(image, float) * 255).astype(np.uint8)).save(path)
        pairs.append(EditPair(str(index), *paths, come=come, go=go))
    return pairs


def results(tmp_path, pairs, lpips=None):
    measures = EditMeasures([load_extractor("pixels-32")], BrightBase(), tiny.lung_segmenter(), "tiny", lpips)
    others = {"pixels-32": np.random.default_rng(1).normal(size=(20, 1024)).astype(np.float32)}
    with open_run(tmp_path / "out", "evaluate", {}, listen=silent) as run:
        found = measured_edits(run, pairs, measures)
        section = edits(pairs, found, others, "corner", 0)
        run.finish()
    return {r.name: r for r in section.results}


def region():
    inside = np.zeros((SIDE, SIDE), bool)
    inside[160:, :96] = True
    return inside


def test_an_edit_as_asked(tmp_path, originals):
    inside = region()
    after = np.where(inside, originals + 0.3, originals)
    found = results(tmp_path, write(tmp_path / "good", originals, after, inside))
    rounded = [np.round(x * 255) / 255 for x in (originals, after)]
    was, now = (x[:, 160:, :96].mean(axis=(1, 2)) for x in rounded)
    assert found["Conf"].value == pytest.approx(now.mean(), abs=1e-3)
    assert found["Conf"].floor == pytest.approx(was.mean(), abs=1e-3)
    assert found["Conf, added"].value == found["Conf"].value
    assert "Conf, taken away" not in found
    assert found["moves as asked"].value == 1
    assert found["share of change inside"].value == 1
    assert found["largest change outside"].value == 0
    assert found["identity"].value == 1
    assert found["SSIM"].value < 1
    assert found["Conf"].n == COUNT


def test_each_fault_shows_in_its_own_number(tmp_path, originals):
    inside = region()
    asked = np.where(inside, originals + 0.3, originals)
    good = results(tmp_path / "a", write(_made(tmp_path / "a") / "x", originals, asked, inside))
    darker = results(
        tmp_path / "b",
        write(_made(tmp_path / "b") / "x", originals, np.where(inside, originals - 0.2, originals), inside),
    )
    spilt = results(tmp_path / "c", write(_made(tmp_path / "c") / "x", originals, originals + 0.3, inside))
    other = results(tmp_path / "d", write(_made(tmp_path / "d") / "x", originals, np.roll(asked, 1, axis=0), inside))
    assert darker["moves as asked"].value == 0 < good["moves as asked"].value
    assert spilt["largest change outside"].value > 0.25 > good["largest change outside"].value
    assert spilt["share of change inside"].value < 0.3
    assert other["identity"].value == 0 < good["identity"].value
    assert other["MS-SSIM"].value < good["MS-SSIM"].value
    nothing = results(tmp_path / "e", write(_made(tmp_path / "e") / "x", originals, originals, inside))
    for name, value in (("SSIM", 1), ("MS-SSIM", 1), ("IoU of lungs", 1), ("similarity of features", 1)):
        assert nothing[name].value == pytest.approx(value, abs=1e-5)
    assert nothing["Conf"].value == pytest.approx(nothing["Conf"].floor)


def test_what_is_to_go(tmp_path, originals):
    inside = region()
    pairs = write(
        tmp_path / "x", originals, np.where(inside, originals - 0.2, originals), inside, come=(), go=("effusion",)
    )
    found = results(tmp_path, pairs)
    assert found["Conf, taken away"].value > found["Conf, taken away"].floor
    assert found["moves as asked, taken away"].value == 1


def test_sizes_that_differ_are_named(tmp_path, originals):
    pairs = write(tmp_path / "x", originals[:1], originals[:1, :128, :128], region())
    with pytest.raises(ImageError, match="both need one size"):
        results(tmp_path, pairs)


def _made(folder):
    folder.mkdir()
    return folder


def test_lpips_is_a_row_where_it_is_given(tmp_path, originals):
    class Mean:
        name = "lpips-alex"

        def perceptual_distance(self, a, b):
            return np.abs(a - b).mean(axis=(1, 2))

    pairs = write(tmp_path / "edits", originals, originals + 0.1, region())
    found = results(tmp_path, pairs, Mean())["LPIPS"]
    assert (found.extractor, found.direction, found.n) == ("lpips-alex", "lower", COUNT)
    assert found.value == pytest.approx(0.1, abs=0.005)
