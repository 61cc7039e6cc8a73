"""Layouts of data sets that others write and read: a reader for each, and a writer for those of general use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from skiagraph.data.layouts import (
    chexpert,
    coco,
    decathlon,
    dicom,
    imagefolder,
    jsrt,
    mimic_cxr,
    montgomery_shenzhen,
    nih_chestxray14,
    nnunet,
    padchest,
    table,
    vindr_cxr,
    webdataset,
)
from skiagraph.data.layouts.case import Case

READERS: dict[str, Callable[[Path], list[Case]]] = {
    "imagefolder": imagefolder.read,
    "coco": coco.read,
    "nnunet": nnunet.read,
    "decathlon": decathlon.read,
    "webdataset": webdataset.read,
    "csv": table.read,
    "dicom": dicom.read,
    "mimic-cxr": mimic_cxr.read,
    "chexpert": chexpert.read,
    "nih-chestxray14": nih_chestxray14.read,
    "padchest": padchest.read,
    "vindr-cxr": vindr_cxr.read,
    "jsrt": jsrt.read,
    "montgomery": montgomery_shenzhen.read,
    "shenzhen": montgomery_shenzhen.read,
}

WRITERS: dict[str, Callable[[Mapping[str, Case], Path, Sequence[str]], Iterator[tuple[str, str]]]] = {
    "imagefolder": imagefolder.write,
    "coco": coco.write,
    "nnunet": nnunet.write,
    "decathlon": decathlon.write,
    "webdataset": webdataset.write,
    "csv": table.write,
    "dicom": dicom.write,
}

NEED_MASKS = ("nnunet",)
"""Layouts that have no place for a training picture without a mask."""
