"""Pictures that a verb is given: files, or folders of them, each with a name for what is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skiagraph.data.images import PICTURES, list_pictures
from skiagraph.errors import ImageError

SUFFIXES = (*PICTURES, ".dcm", ".dicom")
"""That a name loses; others, such as the last part of a UID, belong to it."""


@dataclass(frozen=True)
class Item:
    """A picture and the name of what is made of it: its place below the folder given, without a suffix."""

    source: Path
    name: str


@dataclass(frozen=True)
class Inputs:
    """Pictures to work on, and why each of the folders' other files is passed over."""

    items: tuple[Item, ...]
    passed_over: dict[str, str]


def list_inputs(inputs: Sequence[str], output: Path) -> Inputs:
    """Every file given and every picture of the folders given, but for those in `output`.

    Raises:
        ImageError: a path that does not exist, no pictures, or two of one name.
    """
    found: dict[Path, Path] = {}
    passed: dict[Path, str] = {}
    for text in inputs:
        path = Path(text).resolve()
        if path.is_file():
            found[path] = Path(path.name)
            continue
        if not path.exists():
            raise ImageError(f"input {text} does not exist; give pictures or folders of them")
        listing = list_pictures(path)
        found |= {file: file.relative_to(path) for file in listing.pictures if not _below(file, output)}
        passed |= {file: why for file, why in listing.passed_over.items() if not _below(file, output)}
    passed_over = {str(file): why for file, why in passed.items() if file not in found}
    if not found:
        raise ImageError(f"no pictures in {', '.join(inputs) or 'no input'}{_first(passed_over)}")
    return Inputs(tuple(Item(source, name) for source, name in _named(found).items()), passed_over)


def _named(found: dict[Path, Path]) -> dict[Path, str]:
    stems = Counter(map(_stem, found.values()))
    names = {file: str(place if stems[_stem(place)] > 1 else _stem(place)) for file, place in found.items()}
    for name, count in Counter(names.values()).items():
        if count > 1:
            raise ImageError(f"{count} inputs are named {name}; give the folder above them instead")
    return names


def _first(passed_over: dict[str, str]) -> str:
    return f": {len(passed_over)} file(s) passed over, {next(iter(passed_over.values()))}" if passed_over else ""


def _below(file: Path, folder: Path) -> bool:
    return folder.resolve() in file.parents


def _stem(place: Path) -> Path:
    return place.with_suffix("") if place.suffix.lower() in SUFFIXES else place
