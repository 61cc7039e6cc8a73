"""The study on drawn thoraces: what is trained, resumed, planned and refused."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import phantoms
import skiagraph.engine.study as job
from skiagraph.data.datasets import read_folder
from skiagraph.engine import study_making, study_tasks
from skiagraph.engine.study import Arm, Sets, StudyConfig, arms, plan, study, synthetic_weight
from skiagraph.errors import DataError
from skiagraph.progress import silent


def written(folder, *, wrong=False, split="train"):
    """A data set of one split like `phantoms`; with `wrong` masks that mark what is no lung."""

    def draw(rng):
        pixels, mask = phantoms.thorax(rng)
        return pixels, 255 - mask if wrong else mask

    phantoms.dataset(folder.parent, folder.name, train=8, val=0, draw=draw)
    if split != "train":
        table = folder / "metadata.csv"
        table.write_text(table.read_text().replace(",train,", f",{split},"))
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve thoraces, of which six train, three validate and three test."""
    folder = tmp_path_factory.mktemp("data")
    phantoms.dataset(folder, "mine", train=6, val=6)
    table = folder / "mine/metadata.csv"
    with open(table, encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows[9:]):
        row["split"] = "test"
        row["patient"] = f"t{number}"
    with open(table, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def given(data):
    return StudyConfig(
        data=str(data / "mine"), real=(2, 4), synthetic={"good": written(data / "good")},
        tests={"elsewhere": written(data / "elsewhere", split="test")}, shares=(0.0, 0.5), seeds=1, steps=12, size=32,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    output = tmp_path_factory.mktemp("study") / "o"
    return output, study(given, output, listen=silent)


def test_every_arm_is_trained_and_every_mix_answered_for(whole, given):
    output, manifest = whole
    assert manifest == json.loads((output / "manifest.json").read_text())
    listed = [arm.name for arm in arms(given, given.synthetic)]
    assert list(manifest["cost"]) == listed
    assert len(list((output / "scores").iterdir())) == len(listed) == 11
    assert len(manifest["answers"]) == 2 * (2 * 3 + 1)
    assert {a["tested_on"] for a in manifest["answers"]} == {"test", "elsewhere"}
    assert not list((output / "training").iterdir())
    page = (output / "report.html").read_text()
    assert all(a["sentence"] in page for a in manifest["answers"])


def test_a_study_that_was_cut_off_trains_the_rest_and_says_the_same(whole, given, tmp_path, monkeypatch):
    trained, fit = [], job._cell

    def cut(*args):
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append(args[3].name)
        return fit(*args)

    monkeypatch.setattr(job, "_cell", cut)
    with pytest.raises(KeyboardInterrupt):
        study(given, tmp_path / "o", listen=silent)
    assert not (tmp_path / "o/results.json").exists()
    again = []
    monkeypatch.setattr(job, "_cell", lambda *args: again.append(args[3].name) or fit(*args))
    manifest = study(given, tmp_path / "o", listen=silent)
    assert trained + again == [arm.name for arm in arms(given, given.synthetic)]
    assert manifest["answers"] == whole[1]["answers"]


@pytest.mark.slow
def test_more_seeds_go_on_from_fewer(whole, given, tmp_path, monkeypatch):
    shutil.copytree(whole[0], tmp_path / "o")
    again, fit = [], job._cell
    monkeypatch.setattr(job, "_cell", lambda *args: again.append(args[4]) or fit(*args))
    study(replace(given, seeds=2), tmp_path / "o", listen=silent)
    assert set(again) == {1}


def test_helpful_cases_help_and_wrong_masks_do_not(data, tmp_path):
    """Beside two real cases: eight more of the same kind, and eight whose masks mark what is no lung."""
    synthetic = {"good": str(data / "good"), "wrong": written(data / "wrong", wrong=True)}
    config = StudyConfig(
        data=str(data / "mine"), real=(2,), synthetic=synthetic, tests={"elsewhere": str(data / "elsewhere")},
        shares=(0.5,), seeds=2, steps=25, size=32,
    )  # fmt: skip
    found = study(config, tmp_path / "o", listen=silent)["answers"]
    beside = {a["arm"]: a for a in found if a["against"] == "real 2" and a["tested_on"] == "elsewhere"}
    assert beside["real 2 + wrong, 0.5 of a batch"]["verdict"] == "harms"
    assert beside["wrong alone"]["verdict"] == "harms"
    assert beside["real 2 + good, 0.5 of a batch"]["verdict"] != "harms"


def test_a_plan_trains_nothing(given, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "train", None)
    found = plan(given)
    assert found["trainings"] == len(found["arms"]) == 11
    assert found["minutes"] > 0


def test_a_batch_has_the_share_that_was_asked_for():
    weight = synthetic_weight(0.25, 4.0)["synthetic"]
    assert 4 * weight / (1 + 4 * weight) == pytest.approx(0.25)
    assert not synthetic_weight(0.0, 4.0)


def test_patients_come_once_before_any_comes_twice(given):
    sets = Sets(given)
    assert len(sets.train.records) == 6
    assert np.array_equal(sets.drawn(4)[0][:2].numpy(), sets.drawn(2)[0].numpy())
    held = {name: set(cases.patients) for name, cases in sets.held_out.items()}
    train = {record.patient for record in sets.records["train"]}
    assert not train & (held["validation"] | held["test"])


def test_a_case_made_from_a_real_one_trains_only_beside_it(data, given, tmp_path):
    """Of six copies, one of each training case, an arm takes those of its own cases."""
    folder = tmp_path / "copies"
    shutil.copytree(data / "mine", folder)
    sources = {r.path.name: r.key for r in read_folder(data / "mine")}
    with open(folder / "metadata.csv", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "train"]
    with open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "source"])
        writer.writeheader()
        writer.writerows(row | {"source": sources[row["file"].split("/")[-1]]} for row in rows)
    config = replace(given, synthetic={"copies": str(folder), "good": given.synthetic["good"]}, shares=(0.5,))
    found = study(config, tmp_path / "o", listen=silent)["cost"]
    counted = {arm: numbers["synthetic"] for arm, numbers in found.items() if numbers["synthetic"]}
    assert counted == {
        "real 2 + copies, 0.5 of a batch": 2, "real 2 + good, 0.5 of a batch": 8,
        "real 4 + copies, 0.5 of a batch": 4, "real 4 + good, 0.5 of a batch": 8, "copies alone": 4, "good alone": 8,
    }  # fmt: skip
    sets = Sets(config)
    made = sets.synthetic(tmp_path, silent)["copies"]
    assert torch.equal(sets.beside(made, 4, "copies")[0].sort(dim=0).values, sets.drawn(4)[0].sort(dim=0).values)


def test_a_set_of_others_cases_is_refused(data, given, tmp_path):
    folder = tmp_path / "painted"
    shutil.copytree(data / "good", folder)
    last = Sets(given).train.records[-1].key
    table = (folder / "metadata.csv").read_text().splitlines()
    (folder / "metadata.csv").write_text("\n".join([table[0] + ",source", *(f"{row},{last}" for row in table[1:])]))
    config = replace(given, synthetic={"painted": str(folder)})
    with pytest.raises(DataError, match="all cases of painted were made from real cases that are not among the"):
        study(config, tmp_path / "o", listen=silent)


def test_what_a_study_cannot_do_is_said_before_it_begins(data, given, tmp_path):
    with pytest.raises(DataError, match="has 6 training cases with a mask; --real asks for 50"):
        study(replace(given, real=(50,)), tmp_path / "o", listen=silent)
    with pytest.raises(DataError, match="no case with a mask in val, test"):
        study(replace(given, data=str(data / "good")), tmp_path / "o", listen=silent)
    with pytest.raises(DataError, match="no task 'draw'; a study trains to segment or classify"):
        study(replace(given, task="draw"), tmp_path / "o", listen=silent)
    with pytest.raises(DataError, match="--classes lung: choose among"):
        study(replace(given, task="classify", classes=("lung",)), tmp_path / "o", listen=silent)
    with pytest.raises(DataError, match="no way 'edited' of making cases to segment; choose among made, painted"):
        study(replace(given, synthetic={}, ways=("edited",)), tmp_path / "o", listen=silent)
    assert not (tmp_path / "o").exists()


def test_pairs_are_made_of_the_training_patients_reports_where_none_are_given(data, given, tmp_path, monkeypatch):
    asked = {}

    def made(config, folder, **_):
        asked["prompts"] = config.prompts
        written(folder)

    monkeypatch.setattr(study_making, "make_pairs", made)
    config = replace(given, synthetic={}, real=(2,), shares=(0.0,), ways=("made",))
    manifest = study(config, tmp_path / "o", listen=silent)
    assert len(asked["prompts"]) == 6
    assert "real 2 + made" in manifest["cost"]


def test_names_of_arms():
    assert Arm(10).name == "real 10"
    assert Arm(10, "pairs", 0.25).name == "real 10 + pairs, 0.25 of a batch"
    assert Arm(10, control="self-labelled").name == "real 10 + self-labelled"
    assert Arm(0, "pairs").name == "pairs alone"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Thoraces of which every second is white below, which is called an effusion."""
    folder = tmp_path_factory.mktemp("labelled")
    phantoms.dataset(folder, "mine", train=16, val=16)
    with open(folder / "mine/metadata.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row |= {"mask": "", "labels": "effusion" if number % 2 else "normal"}
        if number >= 24:
            row |= {"split": "test", "patient": f"t{number}"}
        if number % 2:
            path = folder / "mine" / row["file"]
            pixels = np.array(Image.open(path))
            pixels[len(pixels) // 2 :] = 255
            Image.fromarray(pixels).save(path)
    with open(folder / "mine/metadata.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_classifiers_are_studied_by_auroc(labelled, tmp_path, monkeypatch):
    made = {}

    def generate(config, folder, **_):
        made["reports"], made["count"] = config.reports, config.count
        shutil.copytree(labelled / "mine", folder)

    monkeypatch.setattr(study_making, "generate", generate)
    config = StudyConfig(str(labelled / "mine"), task="classify", real=(16,), shares=(0.5,), seeds=2, steps=25, size=32,
                         make=40, ways=("made",))  # fmt: skip
    manifest = study(config, tmp_path / "o", listen=silent)
    assert len(made["reports"]) == 16
    assert made["count"] == 3
    assert any("effusion" in text for text in made["reports"])
    assert len(manifest["answers"]) == 4
    assert all("of AUROC" in a["sentence"] or "cannot be told" in a["sentence"] for a in manifest["answers"])
    stored = json.loads((tmp_path / "o/results.json").read_text())
    assert stored["metric"] == "AUROC"
    assert {row["name"] for row in stored["means"]["test"]} == set(manifest["cost"])
    assert stored["means"]["test"][0]["value"] > 0.8, "a white half is easily learned"


def test_what_no_held_out_case_has_cannot_be_judged(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "train", None)
    config = StudyConfig(
        str(labelled / "mine"), task="classify", classes=("hernia",), real=(4,), shares=(0.5,), seeds=1, steps=2,
        size=32, synthetic={"more": str(labelled / "mine")},
    )  # fmt: skip
    with pytest.raises(DataError, match="validation: no finding is known to be there"):
        study(config, tmp_path / "o", listen=silent)
    empty = study_tasks.Cases((None, torch.zeros(3, 1, 8, 8)), [])
    with pytest.raises(DataError, match="elsewhere: no mask has a pixel of lung"):
        study_tasks.Segmenting(replace(config, classes=()), 1).check("elsewhere", empty)
