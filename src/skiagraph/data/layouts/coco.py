"""COCO: images, and JSON files of instances with polygons or run lengths, which become masks.

Layout: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from skiagraph.data.layouts.case import SPLITS, Case, case_of, copy_file, read_json, read_labels
from skiagraph.errors import DataError


def read(source: Path) -> list[Case]:
    """Cases of `annotations/*.json`, or of `source` where it is such a file itself.

    Pictures are looked for by name below the folder. A file's name says the split (`instances_train2017.json`).
    Categories become classes in the order of their ids; where instances meet, the later one stays.

    Raises:
        DataError: no such file, or one that lacks its parts.
    """
    files = [source] if source.is_file() else sorted(source.glob("annotations/*.json")) or sorted(source.glob("*.json"))
    files = [path for path in files if "annotations" in read_json(path)]
    if not files:
        raise DataError(f"{source} has no JSON file with annotations; COCO has annotations/instances_train.json")
    root = source.parent if source.is_file() else source
    places = {path.name: path for path in root.rglob("*") if path.is_file() and path.suffix.lower() != ".json"}
    return [case for path in files for case in _cases(path, places)]


def write(cases: Mapping[str, Case], folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Write `images/` and `annotations/instances_<split>.json`; yields picture and "" (masks are in the JSON).

    Each class of a mask is one annotation in uncompressed run lengths. What is known of a picture stands in its
    entry beside COCO's own fields.
    """
    parts: dict[str, dict[str, Any]] = {}
    categories = [{"id": k, "name": name, "supercategory": "region"} for k, name in enumerate(classes, start=1)]
    for number, (name, case) in enumerate(cases.items(), start=1):
        file = f"{name}{case.image.suffix.lower()}"
        copy_file(case.image, folder / "images" / file)
        part = parts.setdefault(case.split, {"images": [], "annotations": [], "categories": categories})
        width, height = _size(case)
        part["images"].append({"id": number, "file_name": file, "width": width, "height": height} | case.facts())
        if case.mask:
            labels = read_labels(case.mask, classes)
            part["annotations"] += [
                {"id": number * 1000 + int(k), "image_id": number, "category_id": int(k)} | _region(labels == k)
                for k in np.unique(labels[labels > 0])
            ]
        yield f"images/{file}", ""
    for split, part in parts.items():
        path = folder / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            json.dumps({"info": {"description": _said(cases)}} | part, ensure_ascii=False), encoding="utf-8"
        )


def encode(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths of a mask bool (H, W): of zeros, ones, zeros, ... down the columns."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return [0] * int(flat[0]) + np.diff([0, *edges, flat.size]).tolist()


def decode(counts: Sequence[int], height: int, width: int) -> np.ndarray:
    """The mask bool (height, width) of uncompressed run lengths.

    Raises:
        DataError: runs that do not fill the picture.
    """
    if sum(counts) != height * width:
        raise DataError(f"run lengths fill {sum(counts)} of {height * width} pixels; is the picture's size right?")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width, order="F")


def uncompressed(text: str) -> list[int]:
    """Run lengths of COCO's compressed text: 5 bits a character, from 48 on; from the fourth on as differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def _cases(path: Path, places: Mapping[str, Path]) -> Iterator[Case]:
    content = read_json(path)
    try:
        numbers = {c["id"]: k for k, c in enumerate(sorted(content["categories"], key=lambda c: c["id"]), start=1)}
        names = tuple(c["name"] for c in sorted(content["categories"], key=lambda c: c["id"]))
        drawn: dict[int, list[tuple[int, Any]]] = defaultdict(list)
        for one in content["annotations"]:
            if one.get("segmentation"):
                drawn[one["image_id"]].append((numbers[one["category_id"]], one["segmentation"]))
        split = next((ours for word, ours in SPLITS.items() if word in path.stem.lower()), "")
        for row in content["images"]:
            name = Path(row["file_name"]).name
            size = (int(row["height"]), int(row["width"]))
            mask = partial(_labels, drawn[row["id"]], *size) if row["id"] in drawn else None
            yield case_of({"split": split} | row, places.get(name, path.parent / name), mask=mask, classes=names)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not COCO: {error!r} is missing or of another kind") from error


def _labels(instances: list[tuple[int, Any]], height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    for number, segmentation in instances:
        labels[_mask(segmentation, height, width)] = number
    return labels


def _mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        return decode(uncompressed(counts) if isinstance(counts, str) else counts, height, width)
    picture = Image.new("1", (width, height))
    for polygon in segmentation:
        ImageDraw.Draw(picture).polygon([float(value) for value in polygon], fill=1, outline=1)
    return np.asarray(picture)


def _region(mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "segmentation": {"size": list(mask.shape), "counts": encode(mask)}, "area": int(mask.sum()),
        "bbox": [int(value) for value in box], "iscrowd": 0,
    }  # fmt: skip


def _said(cases: Mapping[str, Case]) -> str:
    return f"{sum(case.synthetic for case in cases.values())} of {len(cases)} pictures are synthetic"


def _size(case: Case) -> tuple[int, int]:
    if case.mask:
        with Image.open(case.mask) as picture:
            return picture.size
    try:
        with Image.open(case.image) as picture:
            return picture.size
    except OSError as error:
        raise DataError(f"{case.image} has no size that COCO can be told ({error}); convert it to PNG") from error
