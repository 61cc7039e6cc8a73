"""One picture with what a layout says of it: what every layout is read into and written from."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from skiagraph.data.datasets import OLDEST
from skiagraph.data.images import read_picture, write_png
from skiagraph.errors import DataError

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
          "dev": "val", "test": "test", "testing": "test"}  # fmt: skip
"""Names that layouts give to splits, and ours."""

SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}


@dataclass(frozen=True)
class Member:
    """A file in a tar archive."""

    archive: Path
    member: str

    @property
    def name(self) -> str:
        """File name without folders."""
        return self.member.rsplit("/", 1)[-1]

    def bytes(self) -> bytes:
        """Content of the file."""
        with tarfile.open(self.archive) as tar:
            stream = tar.extractfile(self.member)
            return stream.read() if stream else b""


@dataclass(frozen=True)
class Case:
    """One picture.

    `split` is "" where the layout has none. `findings` are those that are present and `uncertain` those in doubt, as
    the layout calls them. `mask` is a picture, or a function that draws a label map uint8 (H, W): 0 background, k the
    k-th of `classes`. `age` is in years, `sex` "male" or "female", `view` as in DICOM, such as "PA".
    """

    image: Path | Member
    patient: str
    split: str = ""
    findings: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    view: str = ""
    age: float | None = None
    sex: str = ""
    report: str = ""
    hospital: str = ""
    mask: Path | Member | Callable[[], np.ndarray] | None = None
    classes: tuple[str, ...] = ()
    synthetic: bool = False

    def facts(self) -> dict[str, Any]:
        """What is known of the picture beside its pixels, as JSON values; every written layout has it."""
        return {
            "patient": self.patient, "split": self.split, "labels": list(self.findings), "view": self.view,
            "age": self.age, "sex": self.sex, "report": self.report, "hospital": self.hospital,
            "synthetic": self.synthetic,
        }  # fmt: skip


def case_of(facts: dict[str, Any], image: Path | Member, **more: Any) -> Case:
    """A case of `Case.facts` or of what other programs write in their place; `more` are further fields.

    A picture without `patient` is a patient of its own.
    """
    labels = facts.get("labels") or facts.get("label") or ()
    findings = labels.split("|") if isinstance(labels, str) else [str(label) for label in labels]
    return Case(
        **{
            "image": image,
            "patient": str(facts.get("patient") or "") or Path(image.name).stem,
            "split": split_of(facts.get("split") or ""),
            "findings": tuple(filter(None, map(str.strip, findings))),
            "view": str(facts.get("view") or ""),
            "age": years(facts.get("age")),
            "sex": sex_of(facts.get("sex")),
            "report": str(facts.get("report") or facts.get("text") or ""),
            "hospital": str(facts.get("hospital") or ""),
            "synthetic": str(facts.get("synthetic")).lower() in ("true", "1", "yes"),
            **more,
        }
    )


def split_of(text: str) -> str:
    """Our name of a split; "" for none.

    Raises:
        DataError: a name that is unknown.
    """
    if text and text.lower() not in SPLITS:
        raise DataError(f"split {text!r} is unknown; splits are train, val (or validation) and test")
    return SPLITS[text.lower()] if text else ""


def sex_of(text: Any) -> str:
    """ "male", "female", or "" where it is neither."""
    return SEXES.get(str(text or "").strip().lower(), "")


def years(text: Any) -> float | None:
    """Age in years of a number or of text such as "45", "045Y" or "18M"; None where there is none or beyond 150."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([YyMmWwDd]?)\s*", str("" if text is None else text))
    if not found:
        return None
    value = float(found[1]) / {"m": 12, "w": 52, "d": 365}.get(found[2].lower(), 1)
    return round(value, 2) if value <= OLDEST else None


def read_rows(path: Path, *columns: str, names: Sequence[str] = (), delimiter: str = ",") -> list[dict[str, str]]:
    """Rows of a published table, plain or `.gz`, by its column names as published.

    Args:
        path: of the table; where there is none, `path` with `.gz` is tried.
        columns: names it must have.
        names: column names of a table without a header.
        delimiter: between cells.

    Raises:
        DataError: missing, unreadable, or without one of `columns`.
    """
    path = path if path.is_file() else path.with_name(f"{path.name}.gz")
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig", errors="replace")
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); the layout needs it") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), names or None, delimiter=delimiter)
    rows = [{k: v or "" for k, v in row.items() if isinstance(k, str)} for row in reader]
    lacking = [column for column in columns if column not in (reader.fieldnames or ())]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]!r}; is this the published table?")
    return rows


def drawn(path: Path, classes: Sequence[str]) -> Callable[[], np.ndarray]:
    """A function that reads a label map, for `Case.mask`, where a file's values are not ours."""
    return partial(read_labels, path, classes)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        DataError: missing, or something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); the layout needs it") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; is it the layout's own file?")
    return value


def copy_file(source: Path | Member, target: Path) -> None:
    """Copy a file, from a folder or out of an archive."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Member):
        target.write_bytes(source.bytes())
    else:
        shutil.copyfile(source, target)


def write_as_png(source: Path, target: Path) -> int:
    """Write a picture as a PNG of one or three channels, byte for byte where it is one; gives the number of channels.

    Raises:
        ImageError: as `skiagraph.data.images.read_image`.
    """
    pixels = read_picture(source)
    channels = 3 if pixels.ndim == 3 else 1
    target.parent.mkdir(parents=True, exist_ok=True)
    if _form(source) == ("PNG", "RGB" if channels == 3 else "L"):
        shutil.copyfile(source, target)
    else:
        write_png(target, pixels, bits=16 if channels == 1 and _form(source)[1] in ("", "I", "I;16") else 8)
    return channels


def classes_of(masks: Iterable[Path]) -> tuple[str, ...]:
    """Names of the classes of mask pictures: as the files state them, or else counted from their values.

    Raises:
        DataError: a mask that cannot be read.
    """
    stated: tuple[str, ...] = ()
    highest = 1
    for path in masks:
        values, text = _values(path)
        levels = np.unique(values)
        stated = max(stated, tuple(re.findall(r"[1-9]\d* ([^,]+)", text)), key=len)
        highest = max(highest, int(levels.max()) if len(levels) > 2 or levels.max() < 255 else 1)
    return stated or (("region",) if highest == 1 else tuple(f"region {k}" for k in range(1, highest + 1)))


def read_labels(path: Path, classes: Sequence[str]) -> np.ndarray:
    """Label map uint8 (H, W) of a mask picture at its own size: 0 background, k the k-th of `classes`.

    Raises:
        DataError: unreadable, or a value beyond the classes.
    """
    values, _ = _values(path)
    if len(classes) == 1:
        return (values > 0).astype(np.uint8)
    if values.max() > len(classes):
        raise DataError(f"mask {path} has the label {values.max()} beyond the {len(classes)} classes")
    return values


def _values(path: Path) -> tuple[np.ndarray, str]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L")), str(picture.info.get("Classes", ""))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"mask {path} cannot be read ({error})") from error


def _form(path: Path) -> tuple[str | None, str]:
    try:
        with Image.open(path) as picture:
            return picture.format, picture.mode
    except (OSError, UnidentifiedImageError):
        return None, ""
