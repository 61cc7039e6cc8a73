"""Folders of chest X-rays (and one of colonoscopies) as lists of records with patient-wise splits.

A reader turns one public dataset's folder into `Record`s; the split of every patient is stored as a file in
`data/splits`, so two machines train and test on the same people. Nothing here decodes an image.
"""

from __future__ import annotations

import bisect
import csv
import math
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from skiagraph.data.tables import read_table
from skiagraph.errors import DataError
from skiagraph.files import atomic_path

FOLDER_COLUMNS = ("file", "patient", "split", "report", "mask")
"""Of the data sets that this package writes."""

CHILD_BELOW = 15.0
"""Age in years under which a patient is called a child; in between lies no dataset's cohort."""


OLDEST = 150
"""Age in years that nobody reaches."""


@dataclass(frozen=True)
class Record:
    """One radiograph, or other picture, of one patient.

    `labels` is empty where the dataset names no finding (unknown, which is not `normal`). `mask` is the drawn lung
    mask if there is one; `mask_trusted` says whether its pairing with the image is certain. `source` is the key of the
    real picture that a synthetic one was made from, if it was; `hospital` is where one was taken, where a data set of
    several says so.
    """

    dataset: str
    path: Path
    patient: str
    split: str
    labels: frozenset[str] = frozenset()
    view: str | None = None
    age: float | None = None
    sex: str | None = None
    mask: Path | None = None
    mask_trusted: bool = False
    detail: str = ""
    report: str | None = None
    source: str | None = None
    hospital: str | None = None

    @property
    def key(self) -> str:
        """Name that is unique over all datasets and stable over machines."""
        return f"{self.dataset}/{self.path.name}"

    @property
    def is_child(self) -> bool | None:
        """True under `CHILD_BELOW` years, None where the age is unknown."""
        return None if self.age is None else self.age < CHILD_BELOW


def data_root(root: str | Path | None = None) -> Path:
    """Folder that holds the dataset folders: `root`, else `$SKIAGRAPH_DATA`.

    Raises:
        DataError: neither is given, or the folder does not exist.
    """
    chosen = root or os.environ.get("SKIAGRAPH_DATA")
    if not chosen:
        raise DataError("no data folder given; set SKIAGRAPH_DATA or the recipe's data.root")
    path = Path(chosen).expanduser()
    if not path.is_dir():
        raise DataError(f"data folder {path} does not exist; set SKIAGRAPH_DATA or the recipe's data.root")
    return path


def load_records(
    names: Iterable[str],
    root: str | Path | None = None,
    *,
    splits: Iterable[str] | None = None,
    labels: Collection[str] | None = None,
) -> list[Record]:
    """Records of the named datasets, in a fixed order.

    Args:
        names: keys of `READERS`.
        root: folder with one sub-folder per dataset; see `data_root`.
        splits: keep only these of "train", "val", "test"; all where None.
        labels: names that a folder's own table may have; any where None.

    Raises:
        DataError: unknown dataset, missing folder or index, or an image the index names but the folder lacks.
    """
    base = data_root(root)
    wanted = None if splits is None else set(splits)
    records: list[Record] = []
    for name in names:
        found = READERS[name](base / name) if name in READERS else read_folder(base / name, labels)
        records += [r for r in found if wanted is None or r.split in wanted]
    return records


def read_folder(folder: Path, known: Collection[str] | None = None) -> list[Record]:
    """Any other dataset: a folder with `metadata.csv`, one row per image.

    Columns: `file` (relative to the folder), `patient` and `split` are required; `report`, `labels` (joined by "|", of
    `known` unless that is None), `view`, `age` in years, `sex` ("male" or "female"), `mask`, `source` and `hospital`
    are read where present.

    Raises:
        DataError: no such file or column, an unknown split or label, an age that is no number, a missing image, or a
            patient in two splits.
    """
    if not (folder / "metadata.csv").is_file():
        raise DataError(
            f"unknown dataset {folder.name!r}: not one of {', '.join(sorted(READERS))}, "
            f"and {folder}/metadata.csv is missing"
        )
    records = [
        _row_record(folder, row, known) for row in read_table(folder / "metadata.csv", "file", "patient", "split")
    ]
    splits: dict[str, str] = {}
    for record in records:
        if splits.setdefault(record.patient, record.split) != record.split:
            raise DataError(f"{folder}/metadata.csv puts patient {record.patient!r} in two splits; split by patient")
    return records


def write_folder(
    folder: Path, rows: Iterable[dict[str, object]], columns: Iterable[str] = FOLDER_COLUMNS, name: str = "metadata.csv"
) -> None:
    """Write the table of a data set; `rows` have keys of `columns`. `read_folder` reads `metadata.csv`."""
    with (
        atomic_path(folder / name) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def masked(records: Iterable[Record]) -> list[Record]:
    """The records with a mask that may be trusted."""
    return [r for r in records if r.mask is not None and r.mask_trusted]


def _row_record(folder: Path, row: dict[str, str], known: Collection[str] | None) -> Record:
    labels = frozenset(filter(None, (row.get("labels") or "").split("|")))
    where = f"{folder}/metadata.csv, {row['file']}"
    if row["split"] not in ("train", "val", "test"):
        raise DataError(f"{where}: split {row['split']!r} must be train, val or test")
    if known is not None and labels - set(known):
        raise DataError(f"{where}: labels must be of {', '.join(known)}; found {', '.join(sorted(labels))}")
    return Record(
        dataset=folder.name,
        path=_existing(folder / row["file"]),
        patient=row["patient"],
        split=row["split"],
        labels=labels,
        view=row.get("view") or None,
        age=_years(folder, row) if row.get("age") else None,
        sex=row.get("sex") or None,
        mask=folder / row["mask"] if row.get("mask") else None,
        mask_trusted=bool(row.get("mask")),
        report=row.get("report") or None,
        source=row.get("source") or None,
        hospital=row.get("hospital") or None,
    )


def _years(folder: Path, row: dict[str, str]) -> float:
    try:
        years = float(row["age"])
    except ValueError:
        years = math.nan
    if not 0 <= years <= OLDEST:
        raise DataError(
            f"{folder}/metadata.csv, {row['file']}: age {row['age']!r} must be a number of years, such as 45 or 0.5"
        )
    return years


@cache
def patient_splits(dataset: str) -> dict[str, str]:
    """Stored split ("train", "val" or "test") of every patient of a dataset."""
    text = files("skiagraph.data").joinpath("splits", f"{dataset}.csv").read_text(encoding="utf-8")
    return {row["patient"]: row["split"] for row in csv.DictReader(text.splitlines())}


def read_kermany(folder: Path) -> list[Record]:
    """Paediatric frontal radiographs (Kermany et al. 2018) with drawn lung masks; patients are 1 to 5 years old."""
    return [
        Record(
            dataset="kermany_pneumonia",
            path=_existing(folder / "images" / row["file"]),
            patient=row["patient"],
            split=_split("kermany_pneumonia", row["patient"]),
            labels=frozenset({"normal"} if row["label"] == "normal" else {"pneumonia"}),
            view="AP",
            age=3.0,
            mask=folder / "masks" / row["mask"] if row["mask"] else None,
            mask_trusted=row["match"] == "strong",
            detail=row["label"],
        )
        for row in _rows(folder / "index.csv")
    ]


def read_nih(folder: Path) -> list[Record]:
    """NIH ChestX-ray14 subset (Wang et al. 2017): 14 findings, age, sex and view."""
    return [
        Record(
            dataset="nih_chestxray14",
            path=_existing(folder / "images" / row["file"]),
            patient=row["Patient ID"],
            split=_split("nih_chestxray14", row["Patient ID"]),
            labels=frozenset(_nih_label(name) for name in row["Finding Labels"].split("|")),
            view=row["View Position"],
            age=float(row["Patient Age"]),
            sex={"M": "male", "F": "female"}[row["Patient Gender"]],
        )
        for row in _rows(folder / "labels.csv")
    ]


def read_lung_fields(folder: Path) -> list[Record]:
    """Montgomery County or Shenzhen radiographs (Jaeger et al. 2014): normal or tuberculosis, masks of lung fields.

    Their masks leave out the lung behind the heart, which the other data sets' masks include; ages are not given.
    All of Shenzhen is test.
    """
    return [
        Record(
            dataset=folder.name,
            path=_existing(folder / "images" / row["file"]),
            patient=row["patient"],
            split="test" if folder.name == "shenzhen" else _split(folder.name, row["patient"]),
            labels=frozenset({row["label"]}),
            view=row["view"],
            mask=folder / "masks" / row["mask"] if row["mask"] else None,
            mask_trusted=bool(row["mask"]),
        )
        for row in _rows(folder / "metadata.csv")
    ]


def read_hannover(folder: Path) -> list[Record]:
    """COVID-19 Image Repository of Hannover Medical School: adults, views and sex, no finding labels but COVID-19."""
    return [
        Record(
            dataset="hannover_covid19",
            path=_image(folder / "images", row["image_id"]),
            patient=row["patient_id"],
            split=_split("hannover_covid19", row["patient_id"]),
            labels=frozenset({"covid19"}),
            view=row["projection"].upper(),
            age=50.0,
            sex={"m": "male", "f": "female"}.get(row["sex"]),
        )
        for row in _rows(folder / "data.csv")
    ]


def read_covid_ccby(folder: Path) -> list[Record]:
    """CC BY part of the COVID-19 chest X-ray collection (Cohen et al. 2020): adults, 83 lung masks, test only.

    Most images also stand in the Hannover repository; its stored split keeps those patients out of training.
    """
    return [
        Record(
            dataset="covid_chestxray_ccby",
            path=_existing(folder / "images" / row["file"]),
            patient=row["patientid"],
            split="test",
            labels=frozenset({"covid19"} if row["finding"] == "COVID-19" else ()),
            view="PA" if row["view"].startswith("PA") else "AP",
            age=float(row["age"]) if row["age"] else None,
            sex={"M": "male", "F": "female"}.get(row["sex"]),
            hospital="Hannover" if row["location"].startswith("Hannover") else "others",
            mask=folder / "masks" / row["mask"] if row["mask"] else None,
            mask_trusted=bool(row["mask"]),
        )
        for row in _rows(folder / "metadata.csv")
    ]


CVC_SEQUENCE_ENDS = (
    25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317, 342, 363, 383, 408, 428, 447, 466, 478, 503,
    528, 546, 571, 591, 612,
)  # fmt: skip
"""Last frame number of each of the 29 sequences of CVC-ClinicDB, as its documentation lists them."""


def read_cvc(folder: Path) -> list[Record]:
    """CVC-ClinicDB (Bernal et al. 2015): colonoscopy frames in colour with polyp masks, split by sequence.

    The sequence stands for the patient. A patient may have several sequences; which, is not published.
    """
    frames = sorted((folder / "images").glob("*.jpg"), key=lambda path: int(path.stem))
    if not frames:
        raise DataError(f"{folder / 'images'} holds no frames (*.jpg); the dataset's folder needs them")
    records = []
    for path in frames:
        sequence = f"sequence {bisect.bisect_left(CVC_SEQUENCE_ENDS, int(path.stem)) + 1}"
        records.append(
            Record(
                dataset="cvc_clinicdb",
                path=path,
                patient=sequence,
                split=_split("cvc_clinicdb", sequence),
                mask=_existing(folder / "masks" / f"{path.stem}.png"),
                mask_trusted=True,
            )
        )
    return records


def read_cvc_by_frame(folder: Path) -> list[Record]:
    """CVC-ClinicDB split by frame, as publications have it: 488 frames train, and nearly the same ones test.

    Only for comparison with their numbers, which say little about another patient. The files are those of `read_cvc`.
    """
    name = "cvc_clinicdb_by_frame"
    return [
        replace(r, dataset=name, patient=f"frame {r.path.stem}", split=_split(name, f"frame {r.path.stem}"))
        for r in read_cvc(folder.with_name("cvc_clinicdb"))
    ]


READERS: dict[str, Callable[[Path], list[Record]]] = {
    "kermany_pneumonia": read_kermany,
    "nih_chestxray14": read_nih,
    "nih_chestxray14_more": read_nih,
    "montgomery": read_lung_fields,
    "shenzhen": read_lung_fields,
    "hannover_covid19": read_hannover,
    "covid_chestxray_ccby": read_covid_ccby,
    "cvc_clinicdb": read_cvc,
    "cvc_clinicdb_by_frame": read_cvc_by_frame,
}


def _nih_label(name: str) -> str:
    return "normal" if name == "No Finding" else name.lower()


def _split(dataset: str, patient: str) -> str:
    try:
        return patient_splits(dataset)[patient]
    except KeyError:
        raise DataError(
            f"{dataset}: patient {patient!r} is in no stored split; is this the expected release?"
        ) from None


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path} is missing; the dataset's folder needs it")
    with open(path, encoding="utf-8", errors="replace", newline="") as stream:
        return list(csv.DictReader(stream))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is named in the index but missing; copy the dataset again")
    return path


def _image(folder: Path, stem: str) -> Path:
    for suffix in (".jpg", ".png", ".jpeg"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise DataError(f"{folder / stem}.jpg is named in the index but missing; copy the dataset again")
