import csv
from collections import defaultdict
from importlib.resources import files

import pytest

import phantoms
from skiagraph.data.chest.labels import LABELS
from skiagraph.data.datasets import READERS, data_root, load_records, patient_splits
from skiagraph.errors import DataError


@pytest.fixture
def root(tmp_path):
    return phantoms.dataset(tmp_path)


def edit(root, change):
    path = root / "phantoms/metadata.csv"
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    change(rows)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_a_folder_of_ones_own(root):
    records = load_records(["phantoms"], root, splits=["train"])
    assert len(records) == 6
    first = records[0]
    assert first.labels == {"effusion", "cardiomegaly"}
    assert (first.view, first.age, first.sex, first.is_child) == ("PA", 40.0, "male", False)
    assert first.mask.is_file()
    assert first.mask_trusted
    assert first.report == "Small left pleural effusion."
    assert len({r.key for r in load_records(["phantoms"], root)}) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(split="holdout"), "must be train, val or test"),
        (lambda rows: rows[0].update(labels="sniffles"), "found sniffles"),
        (lambda rows: rows[0].update(file="gone.png"), r"gone\.png is named in the index but missing"),
        (lambda rows: rows[8].update(patient="p0"), "patient 'p0' in two splits"),
        (lambda rows: [row.pop("patient") for row in rows], "no column 'patient'"),
        (lambda rows: rows[0].update(age="45Y"), r"age '45Y' must be a number of years"),
        (lambda rows: rows[0].update(age="-1"), r"age '-1' must be a number of years"),
        (lambda rows: rows[0].update(age="nan"), r"age 'nan' must be a number of years"),
    ],
)
def test_faults_of_metadata_are_named(root, change, message):
    edit(root, change)
    with pytest.raises(DataError, match=message):
        load_records(["phantoms"], root, labels=LABELS)


def test_missing_folders_are_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"unknown dataset 'nothing'.*kermany"):
        load_records(["nothing"], tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        data_root(tmp_path / "gone")
    monkeypatch.delenv("SKIAGRAPH_DATA", raising=False)
    with pytest.raises(DataError, match="set SKIAGRAPH_DATA"):
        data_root()


def test_stored_splits_name_every_patient_once():
    for path in files("skiagraph.data").joinpath("splits").iterdir():
        patients = [row["patient"] for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]
        assert len(patients) == len(set(patients)), path.name


@pytest.mark.data
def test_real_datasets_keep_patients_apart(data_root):
    records = load_records(READERS, data_root)
    splits = defaultdict(set)
    for r in records:
        splits[r.dataset, r.patient].add(r.split)
        assert r.labels <= set(LABELS)
    assert {len(s) for s in splits.values()} == {1}
    assert {r.split for r in records if r.dataset == "covid_chestxray_ccby"} == {"test"}
    assert len({r.key for r in records}) == len(records)


@pytest.mark.data
def test_adults_of_the_test_collection_are_in_no_training_split(data_root):
    """Most of the CC BY collection comes from the Hannover repository: the same patients must not be trained on."""
    tested = load_records(["covid_chestxray_ccby"], data_root)
    trained = [p for p, split in patient_splits("hannover_covid19").items() if split == "train"]
    hannover = [r for r in load_records(["hannover_covid19"], data_root) if r.patient in trained]
    stems = {r.path.stem for r in tested}
    assert not stems & {r.path.stem for r in hannover}


def test_frames_of_a_sequence_stay_together(tmp_path):
    folder = tmp_path / "cvc_clinicdb"
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        (folder / part).mkdir(parents=True)
        for frame in (1, 25, 26, 205, 206, 612):
            (folder / part / f"{frame}.{suffix}").touch()
    records = load_records(["cvc_clinicdb"], tmp_path)
    assert [int(r.path.stem) for r in records] == [1, 25, 26, 205, 206, 612]
    assert [r.patient.split()[1] for r in records] == ["1", "1", "2", "10", "11", "29"]
    assert all(r.split == patient_splits("cvc_clinicdb")[r.patient] for r in records)
    assert [r.mask.stem for r in records] == [r.path.stem for r in records]
    (folder / "masks/26.png").unlink()
    with pytest.raises(DataError, match=r"26\.png"):
        load_records(["cvc_clinicdb_by_frame"], tmp_path)
    with pytest.raises(DataError, match="no frames"):
        load_records(["cvc_clinicdb"], tmp_path / "cvc_clinicdb")


@pytest.mark.data
def test_colonoscopy_frames_are_all_there(data_root):
    by_sequence, by_frame = (load_records([name], data_root) for name in ("cvc_clinicdb", "cvc_clinicdb_by_frame"))
    assert len(by_sequence) == len(by_frame) == 609
    assert len({r.patient for r in by_sequence}) == 29
    assert sum(r.split == "train" for r in by_frame) == 488
    assert {r.split for r in by_sequence} == {"train", "val", "test"}
