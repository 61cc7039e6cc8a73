"""PadChest (Bustos et al. 2020): one table, images of all parts below the folder."""

from __future__ import annotations

import ast
from pathlib import Path

from skiagraph.data.layouts.case import Case, read_rows, sex_of
from skiagraph.errors import DataError

VIEWS = {"L": "LATERAL", "AP_horizontal": "AP"}
OTHER_VIEWS = ("COSTAL", "EXCLUDE", "UNK")


def read(source: Path) -> list[Case]:
    """Cases of frontal and lateral chest images; reports are in Spanish and are kept as they are.

    The age is the year of the study less that of birth. No split is published.

    Raises:
        DataError: no table, or one that lacks a column.
    """
    tables = sorted(source.glob("PADCHEST_chest_x_ray_images_labels_*.csv*"))
    if not tables:
        raise DataError(f"{source} has no PADCHEST_chest_x_ray_images_labels_....csv; give the folder of PadChest")
    places = {path.name: path for path in source.rglob("*.png")}
    needed = ("ImageID", "StudyDate_DICOM", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection", "Labels")
    return [
        Case(
            places.get(row["ImageID"], source / row["ImageID"]),
            row["PatientID"],
            findings=_labels(row["Labels"]),
            view=VIEWS.get(row["Projection"], row["Projection"]),
            age=_age(row),
            sex=sex_of(row["PatientSex_DICOM"]),
            report=row.get("Report", ""),
        )
        for row in read_rows(tables[0], *needed)
        if row["Projection"] not in OTHER_VIEWS
    ]


def _labels(text: str) -> tuple[str, ...]:
    """Names of a list as the table writes it, such as "['pneumonia', ' pleural effusion']"."""
    try:
        return tuple(filter(None, (str(name).strip() for name in ast.literal_eval(text)))) if text else ()
    except (ValueError, SyntaxError, TypeError):
        return ()


def _age(row: dict[str, str]) -> float | None:
    try:
        age = int(row["StudyDate_DICOM"][:4]) - int(float(row["PatientBirth"]))
    except ValueError:
        return None
    return float(age) if 0 <= age <= 120 else None
