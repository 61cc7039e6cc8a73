"""Names of findings that data sets of chest radiographs state, and what others call them."""

from __future__ import annotations

import re

LABELS = (
    "normal",
    "pneumonia",
    "infiltration",
    "consolidation",
    "effusion",
    "atelectasis",
    "edema",
    "cardiomegaly",
    "pneumothorax",
    "nodule",
    "mass",
    "pleural_thickening",
    "fibrosis",
    "emphysema",
    "hernia",
    "covid19",
    "tuberculosis",
)
"""Finding names every dataset is mapped to; `normal` stands for a stated absence of findings."""

MEANINGS = {
    "no finding": "normal",
    "no findings": "normal",
    "pleural effusion": "effusion",
    "infiltrates": "infiltration",
    "infiltrate": "infiltration",
    "oedema": "edema",
    "pulmonary edema": "edema",
    "pulmonary mass": "mass",
    "pulmonary fibrosis": "fibrosis",
    "hiatal hernia": "hernia",
    "covid 19": "covid19",
    "covid": "covid19",
    "tb": "tuberculosis",
} | {name.replace("_", " "): name for name in LABELS}
"""Names that layouts give to findings, in lower case and with spaces, and ours."""


def label_of(finding: str) -> str | None:
    """Our label of a layout's finding; None where there is none."""
    return MEANINGS.get(re.sub(r"[\s_-]+", " ", finding).strip().lower())
