"""Data sets in and out: there and back again in every format, and what others' own readers say of an export."""

import csv
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from skiagraph.data.datasets import read_folder
from skiagraph.data.images import SYNTHETIC_TEXT
from skiagraph.data.layouts import WRITERS
from skiagraph.data.layouts.case import Case
from skiagraph.data.masks import write_mask
from skiagraph.engine.exchange import export_set, import_set, with_splits
from skiagraph.errors import DataError
from skiagraph.progress import silent

SIDE = 48
CLASSES = {"one": ("lung",), "two": ("right lung", "left lung")}


def made_set(folder, classes=("lung",), *, masked=True):
    """Six pictures of five patients in three splits; the second one is synthetic by its own metadata."""
    rng = np.random.default_rng(1)
    rows = []
    for number, (patient, split) in enumerate(zip("aabcde", ("train",) * 3 + ("val", "test", "test"), strict=True)):
        name = f"picture-{number}.png"
        info = PngInfo()
        if number == 1:
            info.add_itxt("Synthetic", SYNTHETIC_TEXT["Synthetic"])
        (folder / "images").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (SIDE, SIDE + 8), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name, pnginfo=info)
        if masked:
            labels = rng.integers(0, len(classes) + 1, (SIDE, SIDE + 8), np.uint8)
            write_mask(folder / "masks" / name, labels, classes)
        rows.append(
            {"file": f"images/{name}", "patient": patient, "split": split, "report": 'Edema, "mild".\nPA view.',
             "labels": "edema|effusion" if number else "", "view": "PA", "age": "54.5" if number else "",
             "sex": "female", "hospital": "North", "mask": f"masks/{name}" if masked else ""}
        )  # fmt: skip
    with open(folder / "metadata.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def known(folder):
    """What a folder's table says of each picture, with its pixels and its mask's."""
    found = {}
    for r in read_folder(folder):
        pixels = np.asarray(Image.open(r.path)).tobytes()
        mask = None if r.mask is None else np.asarray(Image.open(r.mask)).tobytes()
        name = r.path.stem.removesuffix("_0000")
        found[name] = (r.patient, r.split, r.labels, r.view, r.age, r.sex, r.report, pixels, mask)
    return found


@pytest.mark.parametrize("form", [form for form in WRITERS if form != "dicom"])
@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_there_and_back_again(tmp_path, form, classes):
    ours = made_set(tmp_path / "ours", classes)
    export_set(str(ours), form, tmp_path / "theirs", listen=silent)
    import_set(form, tmp_path / "theirs", tmp_path / "back", listen=silent)
    assert known(tmp_path / "back") == known(ours)
    table = (tmp_path / "back/metadata.csv").read_text()
    assert table.count(",true\n") == 1, "one picture is synthetic"


@pytest.mark.parametrize("form", [form for form in WRITERS if form not in ("nnunet", "dicom")])
def test_pictures_without_masks(tmp_path, form):
    ours = made_set(tmp_path / "ours", masked=False)
    export_set(str(ours), form, tmp_path / "theirs", listen=silent)
    import_set(form, tmp_path / "theirs", tmp_path / "back", listen=silent)
    assert known(tmp_path / "back") == known(ours)


def test_synthetic_is_said_in_every_format(tmp_path):
    ours = made_set(tmp_path / "ours")
    for form in WRITERS:
        export_set(str(ours), form, tmp_path / form, listen=silent)
        assert "1 of them are synthetic" in (tmp_path / form / "README.md").read_text()
    lines = (tmp_path / "imagefolder/train/metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["synthetic"] for line in lines] == [False, True, False]
    coco = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert [image["synthetic"] for image in coco["images"]] == [False, True, False]
    decathlon = json.loads((tmp_path / "decathlon/dataset.json").read_text())
    assert [entry["synthetic"] for entry in decathlon["training"]] == [False, True, False]
    assert "1 of 6 pictures are synthetic" in json.loads((tmp_path / "nnunet/dataset.json").read_text())["description"]
    with tarfile.open(tmp_path / "webdataset/train-000000.tar") as tar:
        assert json.load(tar.extractfile("picture-1.json"))["synthetic"] is True
    for form, place in (("nnunet", "imagesTr/picture-1_0000.png"), ("decathlon", "imagesTr/picture-1.png")):
        assert "Synthetic" in Image.open(tmp_path / form / place).info


def test_nnunet_needs_masks(tmp_path):
    with pytest.raises(DataError, match="no picture with a mask"):
        export_set(str(made_set(tmp_path / "ours", masked=False)), "nnunet", tmp_path / "o", listen=silent)
    assert not (tmp_path / "o").exists()


def test_nnunet_as_its_own_check_wants_it(tmp_path):
    """What nnunetv2.experiment_planning.verify_dataset_integrity asserts of dataset.json, files and labels."""
    folder = tmp_path / "Dataset101_Lungs"
    export_set(str(made_set(tmp_path / "ours", CLASSES["two"])), "nnunet", folder, listen=silent)
    content = json.loads((folder / "dataset.json").read_text())
    assert {"labels", "channel_names", "numTraining", "file_ending"} <= set(content)
    assert sorted(content["labels"].values()) == list(range(len(content["labels"])))
    images = sorted((folder / "imagesTr").iterdir())
    assert len(images) == content["numTraining"] == 4
    assert {p.name for p in (folder / "labelsTr").iterdir()} == {p.name.replace("_0000", "") for p in images}
    for path in images:
        label = np.asarray(Image.open(folder / "labelsTr" / path.name.replace("_0000", "")))
        assert label.shape == np.asarray(Image.open(path)).shape
        assert set(np.unique(label)) <= set(content["labels"].values())


NNUNET = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
if __name__ == "__main__":
    verify_dataset_integrity(sys.argv[1], 1)
"""


def test_nnunets_own_check_passes(tmp_path):
    pytest.importorskip("nnunetv2")
    (tmp_path / "check.py").write_text(NNUNET)
    for name, classes in CLASSES.items():
        export_set(str(made_set(tmp_path / name, classes)), "nnunet", tmp_path / f"Dataset1_{name}", listen=silent)
        command = [sys.executable, str(tmp_path / "check.py"), str(tmp_path / f"Dataset1_{name}")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Error" not in done.stdout


def test_hugging_face_loads_an_imagefolder(tmp_path):
    datasets = pytest.importorskip("datasets")
    export_set(str(made_set(tmp_path / "ours")), "imagefolder", tmp_path / "o", listen=silent)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "o"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 3, "validation": 1, "test": 2}
    row = loaded["train"][1]
    assert (row["patient"], row["labels"], row["synthetic"]) == ("a", ["edema", "effusion"], True)
    assert row["image"].size == row["mask"].size == (SIDE + 8, SIDE)


def test_monai_loads_a_decathlon(tmp_path):
    monai = pytest.importorskip("monai.data")
    export_set(str(made_set(tmp_path / "ours")), "decathlon", tmp_path / "o", listen=silent)
    for name, number in (("training", 3), ("validation", 1), ("test", 2)):
        listed = monai.load_decathlon_datalist(tmp_path / "o/dataset.json", True, name)
        assert len(listed) == number
        assert all(
            np.asarray(Image.open(one[key])).shape == (SIDE, SIDE + 8) for one in listed for key in ("image", "label")
        )


def test_pycocotools_loads_a_coco(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    ours = made_set(tmp_path / "ours", CLASSES["two"])
    export_set(str(ours), "coco", tmp_path / "o", listen=silent)
    loaded = coco.COCO(str(tmp_path / "o/annotations/instances_train.json"))
    assert [c["name"] for c in loaded.loadCats(loaded.getCatIds())] == ["right lung", "left lung"]
    for one in loaded.loadAnns(loaded.getAnnIds()):
        name = loaded.loadImgs(one["image_id"])[0]["file_name"]
        drawn = np.asarray(Image.open(ours / "masks" / name)) == one["category_id"]
        assert (loaded.annToMask(one) == drawn).all()


def test_patients_are_drawn_whole_and_alike():
    cases = [Case(f"{p}-{n}", f"p{p}") for p in range(20) for n in range(3)]
    drawn = with_splits(cases, (70, 10, 20), 3)
    assert drawn == with_splits(cases, (7, 1, 2), 3)
    splits = {case.patient: {c.split for c in drawn if c.patient == case.patient} for case in drawn}
    assert all(len(found) == 1 for found in splits.values())
    assert sorted(next(iter(found)) for found in splits.values()) == ["test"] * 4 + ["train"] * 14 + ["val"] * 2
    assert drawn != with_splits(cases, (70, 10, 20), 4)


def test_published_test_patients_stay_and_validation_is_drawn_of_the_others():
    cases = [Case(str(p), f"p{p}", "test" if p < 4 else "train") for p in range(20)]
    drawn = with_splits(cases, (70, 10, 20), 0)
    assert [case.split for case in drawn[:4]] == ["test"] * 4
    assert sorted(case.split for case in drawn[4:]) == ["train"] * 14 + ["val"] * 2


def test_a_patient_in_two_published_splits_is_refused_or_drawn_anew():
    cases = [Case("1", "p", "train"), Case("2", "p", "test")]
    with pytest.raises(DataError, match="patient 'p' is in two published splits"):
        with_splits(cases, (1, 0, 0), 0)
    assert {case.split for case in with_splits(cases, (1, 0, 0), 0, redraw=True)} == {"train"}
    with pytest.raises(DataError, match="three numbers"):
        with_splits(cases, (1, 1), 0)


def test_what_does_not_map_is_counted_and_pictures_are_linked(tmp_path):
    source = tmp_path / "CheXpert-v1.0"
    head = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Pneumonia,Fracture"
    rows = []
    for patient in ("patient1", "patient2", "patient3"):
        path = source / f"train/{patient}/study1/view1_frontal.jpg"
        if patient != "patient3":
            path.parent.mkdir(parents=True)
            Image.new("L", (40, 40), 9).save(path)
        rows.append(f"CheXpert-v1.0/{path.relative_to(source)},Male,61,Frontal,PA,,1.0,-1.0,1.0")
    rows.append("CheXpert-v1.0/train/patient1/study1/view2_lateral.jpg,Male,61,Lateral,,,1.0,,")
    (source / "train.csv").write_text("\n".join([head, *rows]) + "\n")
    manifest = import_set("chexpert", source, tmp_path / "o", listen=silent)
    assert manifest["unmapped"] == {"Fracture": 2}
    assert manifest["in_doubt"] == {"Pneumonia": 2}
    assert (manifest["missing"], manifest["lateral"]) == (1, 1)
    records = read_folder(tmp_path / "o")
    assert [r.labels for r in records] == [{"edema"}] * 2
    assert len({r.key for r in records}) == 2, "names stay apart though all files are called alike"
    assert all(r.path.is_symlink() for r in records)


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path):
    ours = made_set(tmp_path / "ours")
    with pytest.raises(DataError, match="no layout 'dicomdir'"):
        import_set("dicomdir", ours, tmp_path / "o", listen=silent)
    with pytest.raises(DataError, match="does not exist"):
        import_set("csv", tmp_path / "none", tmp_path / "o", listen=silent)
    with pytest.raises(DataError, match="no format 'parquet'"):
        export_set(str(ours), "parquet", tmp_path / "o", listen=silent)
    (ours / "masks/picture-5.png").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        export_set(str(ours), "nnunet", tmp_path / "o", listen=silent)
    (tmp_path / "volume.csv").write_text("file\nours/a.nii.gz\n")
    (ours / "a.nii.gz").write_bytes(b"1")
    with pytest.raises(DataError, match="convert it to PNG"):
        import_set("csv", tmp_path / "volume.csv", tmp_path / "o", listen=silent)
    assert {p.name for p in tmp_path.iterdir()} == {"ours", "volume.csv"}


def test_only_an_earlier_export_is_replaced(tmp_path):
    ours = made_set(tmp_path / "ours")
    export_set(str(ours), "csv", tmp_path / "o", listen=silent)
    with pytest.raises(DataError, match="is there already"):
        export_set(str(ours), "coco", tmp_path / "o", listen=silent)
    export_set(str(ours), "coco", tmp_path / "o", overwrite=True, listen=silent)
    assert not (tmp_path / "o/metadata.csv").exists()
    with pytest.raises(DataError, match="was not written by skiagraph export"):
        export_set(str(ours), "coco", ours, overwrite=True, listen=silent)


def test_what_segment_wrote_is_exported(tmp_path):
    ours = made_set(tmp_path / "ours")
    rows = [{"source": str(ours / f"images/picture-{n}.png"), "mask": f"masks/picture-{n}.png"} for n in range(3)]
    (ours / "manifest.json").write_text(json.dumps({"verb": "segment", "config": {"form": "png"}, "images": rows}))
    manifest = export_set(str(ours), "nnunet", tmp_path / "o", listen=silent)
    assert manifest["counts"] == {"pictures": 3, "patients": 3, "synthetic": 1, "masks": 3}
