"""Readers of published layouts, on made-up rows under the published column names."""

import gzip

import numpy as np
import pytest
from PIL import Image

from skiagraph.data.chest.labels import label_of
from skiagraph.data.layouts import READERS
from skiagraph.errors import DataError

CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def write(path, *lines, packed=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())


def picture(path, value=90, size=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def labels(case):
    return {label for label in map(label_of, case.findings) if label}


def test_chexpert(tmp_path):
    write(
        tmp_path / "train.csv", CHEXPERT,
        "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,,,1.0,,,-1.0,,,,,1.0,,,1.0",
        "CheXpert-v1.0-small/train/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,,,1.0,,,-1.0,,,,,1.0,,,1.0",
    )  # fmt: skip
    write(
        tmp_path / "valid.csv", CHEXPERT,
        "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,PA,1.0,0.0,0.0,,,,,,,,,,,",
    )  # fmt: skip
    first, lateral, valid = READERS["chexpert"](tmp_path)
    assert first.image == tmp_path / "train/patient00001/study1/view1_frontal.jpg"
    assert (first.patient, first.split, first.view, first.age, first.sex) == (
        "patient00001",
        "train",
        "AP",
        68,
        "female",
    )
    assert labels(first) == {"cardiomegaly", "effusion"}
    assert first.uncertain == ("Edema",), "in doubt is not present"
    assert lateral.view == "LATERAL"
    assert (valid.split, labels(valid)) == ("val", {"normal"})


@pytest.mark.parametrize("packed", [False, True])
def test_mimic_cxr(tmp_path, packed):
    ending = ".gz" if packed else ""
    write(
        tmp_path / f"mimic-cxr-2.0.0-metadata.csv{ending}",
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate",
        "02aa804e,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506", packed=packed,
    )  # fmt: skip
    write(
        tmp_path / f"mimic-cxr-2.0.0-split.csv{ending}", "dicom_id,study_id,subject_id,split",
        "02aa804e,50414267,10000032,validate", packed=packed,
    )  # fmt: skip
    write(
        tmp_path / f"mimic-cxr-2.0.0-chexpert.csv{ending}",
        "subject_id,study_id,Atelectasis,Cardiomegaly,No Finding,Pneumonia", "10000032,50414267,1.0,0.0,,-1.0",
        packed=packed,
    )  # fmt: skip
    (case,) = READERS["mimic-cxr"](tmp_path)
    assert case.image == tmp_path / "files/p10/p10000032/s50414267/02aa804e.jpg"
    assert (case.patient, case.split, case.view, case.uncertain) == ("10000032", "val", "PA", ("Pneumonia",))
    assert labels(case) == {"atelectasis"}


@pytest.mark.parametrize(("table", "sex"), [("Data_Entry_2017.csv", "Gender"), ("Data_Entry_2017_v2020.csv", "Sex")])
def test_nih_chestxray14(tmp_path, table, sex):
    write(
        tmp_path / table,
        f"Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient {sex},View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
        "00000001_000.png,Cardiomegaly|Pleural_Thickening,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
        "00000002_000.png,No Finding,0,2,81,F,AP,2500,2048,0.171,0.171,",
    )  # fmt: skip
    write(tmp_path / "train_val_list.txt", "00000001_000.png")
    write(tmp_path / "test_list.txt", "00000002_000.png")
    picture(tmp_path / "images_001/images/00000001_000.png")
    one, two = READERS["nih-chestxray14"](tmp_path)
    assert one.image == tmp_path / "images_001/images/00000001_000.png"
    assert (one.patient, one.split, one.age, one.sex, one.view) == ("1", "train", 58, "male", "PA")
    assert labels(one) == {"cardiomegaly", "pleural_thickening"}
    assert (two.split, labels(two), two.sex) == ("test", {"normal"}, "female")


def test_padchest(tmp_path):
    write(
        tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Report,Labels",
        """0,a.png,0,20140915,s1,p1,1930.0,F,PA,derrame,"['pleural effusion', ' infiltrates', 'rib fracture']" """,
        "1,b.png,0,20140915,s1,p1,1930.0,F,L,derrame,\"['normal']\"",
        "2,c.png,0,20140915,s2,p2,,M,COSTAL,,\"['normal']\"",
    )
    picture(tmp_path / "0/a.png")
    frontal, lateral = READERS["padchest"](tmp_path)
    assert frontal.image == tmp_path / "0/a.png"
    assert labels(frontal) == {"effusion", "infiltration"}
    assert "rib fracture" in frontal.findings
    assert (frontal.age, frontal.sex, frontal.report, lateral.view) == (84, "female", "derrame", "LATERAL")


def test_vindr_cxr(tmp_path):
    write(
        tmp_path / "annotations/image_labels_train.csv", "image_id,rad_id,Cardiomegaly,Pleural effusion,No finding",
        "x,R1,1,0,0", "x,R2,1,1,0", "x,R3,0,0,1", "y,R1,0,0,1", "y,R2,0,0,1", "y,R4,0,0,1",
    )  # fmt: skip
    write(
        tmp_path / "annotations/image_labels_test.csv", "image_id,Cardiomegaly,Pleural effusion,No finding", "z,0,1,0"
    )
    x, y, z = READERS["vindr-cxr"](tmp_path)
    assert x.image == tmp_path / "train/x.dicom"
    assert labels(x) == {"cardiomegaly"}
    assert x.uncertain == ("Pleural effusion", "No finding"), "one of three radiologists"
    assert labels(y) == {"normal"}
    assert (z.image, z.split, labels(z)) == (tmp_path / "test/z.dicom", "test", {"effusion"})


def test_jsrt_with_masks_of_scr(tmp_path):
    write(tmp_path / "CLNDAT_EN.txt", "JPCLN001.IMG\t5\t15\t53\tMale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer")
    write(tmp_path / "CNNDAT_EN.TXT", "JPCNN001.IMG\t42\tFemale\tnon-nodule")
    for name in ("JPCLN001", "JPCNN001"):
        picture(tmp_path / f"images/{name}.png", size=(64, 64))
    for side, columns in (("right lung", slice(0, 10)), ("left lung", slice(20, 30))):
        mask = np.zeros((32, 32), np.uint8)
        mask[5:25, columns] = 255
        (tmp_path / f"scratch/fold1/masks/{side}").mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / f"scratch/fold1/masks/{side}/JPCLN001.gif")
    nodule, without = READERS["jsrt"](tmp_path)
    drawn = nodule.mask()
    assert drawn.shape == (64, 64)
    assert drawn[20, 5] == 1
    assert drawn[20, 45] == 2
    assert (labels(nodule), nodule.age, nodule.sex) == ({"nodule"}, 53, "male")
    assert (labels(without), without.sex, without.mask) == ({"normal"}, "female", None)


def test_montgomery_and_shenzhen(tmp_path):
    for name in ("MCUCXR_0001_0", "CHNCXR_0331_1"):
        picture(tmp_path / f"CXR_png/{name}.png")
    write(tmp_path / "ClinicalReadings/MCUCXR_0001_0.txt", "Patient's Sex: F", "Patient's Age: 027Y", "normal")
    write(tmp_path / "ClinicalReadings/CHNCXR_0331_1.txt", "male 18month", "PTB")
    for side in ("left", "right"):
        picture(tmp_path / f"ManualMask/{side}Mask/MCUCXR_0001_0.png", value=255 * (side == "left"))
    picture(tmp_path / "mask/CHNCXR_0331_1_mask.png", value=255)
    shenzhen, montgomery = READERS["montgomery"](tmp_path)
    assert (montgomery.sex, montgomery.age, labels(montgomery)) == ("female", 27, {"normal"})
    assert set(np.unique(montgomery.mask())) == {2}
    assert (shenzhen.sex, shenzhen.age, labels(shenzhen)) == ("male", 1.5, {"tuberculosis"})
    assert shenzhen.mask == tmp_path / "mask/CHNCXR_0331_1_mask.png"


@pytest.mark.parametrize("layout", [name for name in READERS if name != "csv"])
def test_another_folder_is_one_line_that_says_what_is_missing(tmp_path, layout):
    with pytest.raises(DataError, match=r"(give|needs|is it|has|add|convert|read)"):
        READERS[layout](tmp_path)


def test_a_table_without_a_column_is_named(tmp_path):
    write(tmp_path / "train.csv", "path,label", "a.jpg,1")
    with pytest.raises(DataError, match=r"train\.csv has no column 'Path'"):
        READERS["chexpert"](tmp_path)
