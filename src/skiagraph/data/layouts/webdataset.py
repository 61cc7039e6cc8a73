"""WebDataset: tar files in which files of one name are one sample: NAME.png, NAME.mask.png, NAME.json."""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skiagraph.data.layouts.case import SPLITS, Case, Member, case_of
from skiagraph.errors import DataError

SHARD = 1000
"""Samples in a tar file."""

PICTURES = ("png", "jpg", "jpeg", "webp", "dcm", "dicom")


def read(source: Path) -> list[Case]:
    """Cases of `*.tar` in a folder; a tar file's name begins with the split, a sample's JSON has what is known.

    Raises:
        DataError: no tar files, or one that is damaged.
    """
    archives = sorted(source.glob("*.tar"))
    if not archives:
        raise DataError(f"{source} has no *.tar; give the folder that holds the shards")
    return [case for archive in archives for case in _cases(archive)]


def write(cases: Mapping[str, Case], folder: Path, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Write `<split>-000000.tar`, ...; yields the names of picture and mask in the archive, as `tar/name`."""
    for split in dict.fromkeys(case.split for case in cases.values()):
        part = [(name, case) for name, case in cases.items() if case.split == split]
        for start in range(0, len(part), SHARD):
            archive = f"{split}-{start // SHARD:06d}.tar"
            with tarfile.open(folder / archive, "w") as tar:
                for name, case in part[start : start + SHARD]:
                    image = f"{name}{case.image.suffix.lower()}"
                    _add(tar, image, case.image.read_bytes())
                    if case.mask:
                        _add(tar, f"{name}.mask.png", case.mask.read_bytes())
                    _add(tar, f"{name}.json", json.dumps(case.facts(), ensure_ascii=False).encode())
                    yield f"{archive}/{image}", f"{archive}/{name}.mask.png" if case.mask else ""


def _cases(archive: Path) -> Iterator[Case]:
    samples: dict[str, dict[str, Member]] = defaultdict(dict)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile():
                    folder, _, file = member.name.rpartition("/")
                    key, _, ending = file.partition(".")
                    samples[f"{folder}/{key}"][ending.lower()] = Member(archive, member.name)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{archive} is not a readable tar file ({error})") from error
    split = next((ours for word, ours in SPLITS.items() if archive.name.lower().startswith(word)), "")
    for parts in samples.values():
        image = next((parts[ending] for ending in PICTURES if ending in parts), None)
        if image:
            facts = _facts(parts["json"]) if "json" in parts else {}
            yield case_of({"split": split} | facts, image, mask=parts.get("mask.png"))


def _facts(member: Member) -> dict[str, Any]:
    try:
        facts = json.loads(member.bytes())
    except ValueError as error:
        raise DataError(f"{member.archive}: {member.name} is not valid JSON ({error})") from error
    if not isinstance(facts, dict):
        raise DataError(f"{member.archive}: {member.name} is no JSON object")
    return facts


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
