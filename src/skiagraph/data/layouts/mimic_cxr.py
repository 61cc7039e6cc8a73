"""MIMIC-CXR-JPG 2.0 and 2.1 (Johnson et al. 2019), as PhysioNet publishes it."""

from __future__ import annotations

from pathlib import Path

from skiagraph.data.layouts.case import Case, read_rows, split_of
from skiagraph.data.layouts.chexpert import findings_of

KEYS = ("dicom_id", "subject_id", "study_id")


def read(source: Path) -> list[Case]:
    """Cases of `files/p1x/p<subject>/s<study>/<dicom>.jpg` with the CheXpert labels of their studies.

    Splits are the published ones. Ages and sexes are not in these tables.

    Raises:
        DataError: a table is missing or lacks a column.
    """
    table = source / "mimic-cxr-2.0.0-metadata.csv"
    splits = {r["dicom_id"]: r["split"] for r in read_rows(source / "mimic-cxr-2.0.0-split.csv", *KEYS, "split")}
    studies = {r["study_id"]: r for r in read_rows(source / "mimic-cxr-2.0.0-chexpert.csv", "subject_id", "study_id")}
    cases = []
    for row in read_rows(table, *KEYS, "ViewPosition"):
        subject, study = row["subject_id"], row["study_id"]
        findings, uncertain = findings_of(studies.get(study, {}), skip=("subject_id", "study_id"))
        cases.append(
            Case(
                source / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{row['dicom_id']}.jpg",
                subject, split_of(splits.get(row["dicom_id"], "")), findings, uncertain, view=row["ViewPosition"],
            )
        )  # fmt: skip
    return cases
