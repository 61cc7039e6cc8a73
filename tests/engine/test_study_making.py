"""What a study makes: painted cases know their source, edits get the findings of others, both only of own cases."""

import csv
from dataclasses import replace

import pytest

import phantoms
import skiagraph.engine.augment as augmenting
import skiagraph.engine.study_making as job
from skiagraph.data.datasets import read_folder
from skiagraph.engine.picture_sets import text_of
from skiagraph.engine.study_making import MAKERS, Request, edited, painted, seconds_each
from skiagraph.errors import DataError
from skiagraph.progress import silent


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Eight thoraces; every second has an effusion and a large heart."""
    root = phantoms.dataset(tmp_path_factory.mktemp("real"), "mine", train=8, val=0, report="")
    return read_folder(root / "mine")


@pytest.fixture
def request_of(own, tiny_model):
    return Request(("Right consolidation.", "Normal chest."), own, 8, ("lung",), str(tiny_model))


def test_own_cases_are_painted_and_know_their_source(own, request_of, tmp_path, monkeypatch):
    monkeypatch.setattr(augmenting, "inpaint", lambda painter, image, *a, **k: (image * 0.9).astype("float32"))
    monkeypatch.setattr(augmenting.Gate, "fault", lambda *a: None)
    painted(replace(request_of, own=own[:3]), tmp_path / "painted", silent)
    found = read_folder(tmp_path / "painted")
    assert sorted(r.source for r in found) == sorted(2 * [r.key for r in own[:3]]), "two of each, not eight"
    painted(replace(request_of, count=4), tmp_path / "few/painted", silent)
    assert len(read_folder(tmp_path / "few/painted")) == 4


def test_edits_take_findings_of_earlier_cases_and_stay_where_all_changes_are_seen(
    own, request_of, tmp_path, monkeypatch
):
    asked = {}

    def edit(config, folder, listen):
        with open(config.image, encoding="utf-8") as stream:
            asked["rows"] = list(csv.DictReader(stream))
        made = []
        for number, row in enumerate(asked["rows"]):
            name = f"{number:05d}-{row['image'].rsplit('/', 1)[-1].removesuffix('.png')}"
            (folder / name).mkdir(parents=True)
            (folder / name / "after-1.png").write_bytes(own[0].path.read_bytes())
            read = [{"done": True}, {"done": number != 1}]
            made.append({"folder": name, "frames": [{"file": f"{name}/after-1.png", "read": read}]})
        return {"edits": made[1:]}

    monkeypatch.setattr(job, "edit", edit)
    edited(request_of, tmp_path / "edited", silent)
    rows = asked["rows"]
    assert len(rows) == 7, "the first has no earlier one"
    domain = request_of.domain
    texts = [text_of(record, domain) for record in own]
    for number, row in enumerate(rows, start=1):
        assert row["from"] == texts[number]
        assert row["to"] in texts[:number]
    found = read_folder(tmp_path / "edited")
    assert [r.source for r in found] == [r.key for r in own[3:]], "one failed, one was not seen"
    assert all(r.labels == own[int(r.source[-5]) - 1].labels for r in found), "those of the other kind"
    assert {(r.split, r.view, r.age) for r in found} == {("train", "PA", 40.0)}


def test_cases_that_differ_in_nothing_cannot_be_edited(own, request_of, tmp_path):
    with pytest.raises(DataError, match="no case can be edited"):
        edited(replace(request_of, own=own[::2]), tmp_path / "edited", silent)


def test_a_model_of_another_kind_is_refused(request_of):
    request_of.check(1)
    with pytest.raises(DataError, match="makes grey pictures and the cases are in colour; give another --model"):
        request_of.check(3)


def test_time_is_that_of_one_more_image(request_of, monkeypatch):
    clock = iter([0.0, 12.0, 20.0, 36.0])
    monkeypatch.setattr(job.time, "perf_counter", lambda: next(clock))
    counts = []
    assert seconds_each(lambda request, *_: counts.append(request.count), request_of) == 2.0
    assert counts == [1, 3]


def test_a_plan_s_few_edits_may_all_fail(request_of, monkeypatch):
    def unseen(config, folder, listen):
        return {"edits": []}

    monkeypatch.setattr(job, "edit", unseen)
    assert seconds_each(edited, request_of) >= 0


def test_a_model_without_an_autoencoder_is_left_to_its_maker(request_of):
    replace(request_of, model="lung-segmenter").check(3)


def test_every_task_has_images_of_texts_and_of_real_cases():
    assert {task: tuple(ways) for task, ways in MAKERS.items()} == {
        "segment": ("made", "painted"), "classify": ("made", "edited"),
    }  # fmt: skip
