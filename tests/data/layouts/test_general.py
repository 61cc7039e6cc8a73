"""Layouts of general use, as other programs write them."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from skiagraph.data.chest.labels import label_of
from skiagraph.data.layouts import READERS, coco, table, webdataset
from skiagraph.data.layouts.case import classes_of, read_labels, sex_of, split_of, years
from skiagraph.errors import DataError


def picture(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40), 90, np.uint8) if pixels is None else pixels).save(path)


@pytest.mark.parametrize(
    ("text", "age"),
    [("45", 45), ("058Y", 58), ("18M", 1.5), (3.0, 3), ("", None), (None, None), ("old", None), ("411", None)],
)
def test_years(text, age):
    assert years(text) == age


def test_names_of_others_become_ours():
    assert [label_of(n) for n in ("Pleural Effusion", "Pleural_Thickening", "No Finding", "Lung Lesion")] == [
        "effusion", "pleural_thickening", "normal", None,
    ]  # fmt: skip
    assert [split_of(n) for n in ("validate", "Training", "test", "")] == ["val", "train", "test", ""]
    assert [sex_of(n) for n in ("M", "Female", "O", None)] == ["male", "female", "", ""]
    with pytest.raises(DataError, match="split 'holdout' is unknown"):
        split_of("holdout")


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_come_back(seed):
    mask = np.random.default_rng(seed).random((7, 5)) < 0.5
    counts = coco.encode(mask)
    assert sum(counts) == mask.size
    assert (coco.decode(counts, 7, 5) == mask).all()


def test_run_lengths_of_a_full_and_an_empty_mask():
    assert coco.encode(np.ones((2, 3), bool)) == [0, 6]
    assert coco.encode(np.zeros((2, 3), bool)) == [6]
    with pytest.raises(DataError, match="run lengths fill 5 of 6 pixels"):
        coco.decode([5], 2, 3)


def test_compressed_run_lengths_are_those_of_pycocotools():
    masks = pytest.importorskip("pycocotools.mask")
    for seed in range(20):
        mask = np.random.default_rng(seed).random((60, 50)) < 0.02 * (seed + 1)
        text = masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert (coco.decode(coco.uncompressed(text), 60, 50) == mask).all()


def test_compressed_run_lengths():
    assert coco.uncompressed("06") == [0, 6]
    assert coco.uncompressed("P1") == [32]
    assert coco.uncompressed("5434") == [5, 4, 3, 8], "from the fourth on a difference to the second last"


def test_coco_polygons_become_a_mask(tmp_path):
    picture(tmp_path / "val2017/1.png")
    annotations = {
        "images": [{"id": 7, "file_name": "1.png", "width": 40, "height": 40}],
        "categories": [{"id": 9, "name": "heart"}, {"id": 3, "name": "lung"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[5, 5, 14, 5, 14, 14, 5, 14]]},
            {"id": 2, "image_id": 7, "category_id": 9, "segmentation": {"size": [40, 40], "counts": [0, 40, 1560]}},
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(annotations))
    (case,) = READERS["coco"](tmp_path)
    assert (case.image, case.split, case.classes) == (tmp_path / "val2017/1.png", "val", ("lung", "heart"))
    drawn = case.mask()
    assert (drawn[5:15, 5:15] == 1).all()
    assert (drawn[:, 0] == 2).all()
    assert (drawn > 0).sum() == 140


def test_imagefolder_with_csv_and_without_any_table(tmp_path):
    picture(tmp_path / "a/train/1.png")
    (tmp_path / "a/train/metadata.csv").write_text("file_name,text\n1.png,Edema.\n")
    (case,) = READERS["imagefolder"](tmp_path / "a")
    assert (case.split, case.report) == ("train", "Edema.")
    picture(tmp_path / "b/validation/pneumonia/1.png")
    (case,) = READERS["imagefolder"](tmp_path / "b")
    assert (case.split, case.findings) == ("val", ("pneumonia",))


def test_nnunet_without_our_table(tmp_path):
    content = {
        "channel_names": {"0": "x"},
        "labels": {"background": 0, "lung": 1},
        "numTraining": 1,
        "file_ending": ".png",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    for part, name in (("Tr", "a"), ("Ts", "b")):
        picture(tmp_path / f"images{part}/{name}_0000.png")
    picture(tmp_path / "labelsTr/a.png", np.eye(40, dtype=np.uint8))
    train, test = READERS["nnunet"](tmp_path)
    assert (train.patient, train.split, train.classes) == ("a", "", ("lung",))
    assert (train.mask() == np.eye(40)).all()
    assert (test.patient, test.split, test.mask) == ("b", "test", None)
    picture(tmp_path / "imagesTr/a_0001.png")
    with pytest.raises(DataError, match="several channels"):
        READERS["nnunet"](tmp_path)


def test_decathlon_as_published_has_no_validation(tmp_path):
    content = {
        "labels": {"0": "background", "1": "lung"}, "test": ["./imagesTs/b.png"],
        "training": [{"image": "./imagesTr/a.png", "label": "./labelsTr/a.png"}],
    }  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    train, test = READERS["decathlon"](tmp_path)
    assert (train.split, train.patient, test.split, test.mask) == ("", "a", "test", None)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(DataError, match="holds no JSON object"):
        READERS["decathlon"](tmp_path)


def test_a_table_under_other_names(tmp_path):
    (tmp_path / "t.csv").write_text("path,subject,dx\np/1.png,A,Edema|Fracture\n")
    (case,) = table.read(tmp_path / "t.csv", {"file": "path", "patient": "subject", "labels": "dx"})
    assert (case.image, case.patient, case.findings) == (tmp_path / "p/1.png", "A", ("Edema", "Fracture"))
    with pytest.raises(DataError, match="has no column 'nothing'"):
        table.read(tmp_path / "t.csv", {"file": "nothing"})
    with pytest.raises(DataError, match="column 'name' is unknown"):
        table.read(tmp_path / "t.csv", {"name": "path"})


def test_classes_of_masks(tmp_path):
    labels = np.zeros((40, 40), np.uint8)
    labels[:10] = 255
    picture(tmp_path / "one.png", labels)
    assert classes_of([tmp_path / "one.png"]) == ("region",)
    labels[:5], labels[5:10] = 1, 2
    picture(tmp_path / "two.png", labels)
    assert classes_of([tmp_path / "two.png"]) == ("region 1", "region 2")
    assert (read_labels(tmp_path / "two.png", ("a", "b")) == labels).all()
    with pytest.raises(DataError, match="label 255 beyond the 2 classes"):
        read_labels(tmp_path / "one.png", ("a", "b"))


@pytest.mark.parametrize("content", [b"{", b"[1]"])
def test_a_damaged_sample_of_a_webdataset_is_named(tmp_path, content):
    with tarfile.open(tmp_path / "train-000000.tar", "w") as tar:
        for name, data in {"a.png": b"", "a.json": content}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(DataError, match=r"train-000000\.tar: a\.json is no"):
        webdataset.read(tmp_path)
