"""What a classifier of chest radiographs says: findings, and whether a picture is abnormal, a child's, AP, a male's."""

from __future__ import annotations

from skiagraph.data.chest.labels import LABELS
from skiagraph.data.datasets import Record

ATTRIBUTES = ("abnormal", "child", "view AP", "male")
TARGETS = (*(label for label in LABELS if label != "normal"), *ATTRIBUTES)


def targets_of(record: Record, complete: bool = False) -> list[float]:
    """1, 0 or NaN (unknown) for each of `TARGETS`.

    Only NIH states all findings of a picture; elsewhere a finding not named is known to be absent only on a normal one,
    unless the labels are said to be `complete`.
    """
    complete = complete or record.dataset == "nih_chestxray14" or "normal" in record.labels
    absent = 0.0 if complete else float("nan")
    findings = [1.0 if label in record.labels else absent for label in TARGETS[: -len(ATTRIBUTES)]]
    abnormal = float("nan") if not record.labels else float("normal" not in record.labels)
    child = float("nan") if record.is_child is None else float(record.is_child)
    view = float("nan") if record.view not in ("AP", "PA") else float(record.view == "AP")
    male = float("nan") if record.sex is None or record.is_child else float(record.sex == "male")
    return [*findings, abnormal, child, view, male]
