"""Any folder of pictures as records: a data set, what a verb has written, or pictures alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from skiagraph.data.datasets import READERS, Record, load_records, read_folder
from skiagraph.data.images import PICTURES, list_pictures
from skiagraph.data.reports import Report
from skiagraph.domains.domain import Domain
from skiagraph.errors import DataError, ReportError

SPLITS = ("train", "val", "test")


def read_set(text: str, domain: Domain) -> list[Record]:
    """Records of a folder's pictures of a domain, with what is known of them.

    A folder with `metadata.csv`, or the name of a known one, is a data set, of which `FOLDER:test` takes one split. One
    that `skiagraph generate` wrote has its reports, whose findings are the labels; pictures of one report count as one
    patient. In any other, every picture is a patient of its own.

    Raises:
        DataError: no such folder or split, or no pictures.
    """
    name, _, split = text.rpartition(":")
    name, split = (name, split) if name and split in SPLITS else (text, "")
    if name in READERS:
        records = load_records([name])
    elif Path(name).is_dir():
        records = _records(Path(name), domain)
    else:
        raise DataError(f"no folder {text}; give a folder of pictures, or FOLDER:train, FOLDER:val or FOLDER:test")
    records = [r for r in records if not split or r.split == split]
    if not records:
        raise DataError(f"no pictures{f' of the split {split}' if split else ''} in {name}")
    return [with_report(record, domain) for record in records]


def labels_of(report: Report, domain: Domain) -> frozenset[str]:
    """Findings that a report states, of the domain's labels; "normal" where it says that all is."""
    present = frozenset(report.present()) & set(domain.labels)
    return present or (frozenset({"normal"}) if report.normal else frozenset())


def text_of(record: Record, domain: Domain) -> str:
    """What a record's report says, or its labels in the words of captions."""
    return record.report or domain.record_prompt(record)


def with_report(record: Record, domain: Domain) -> Record:
    """The record with what its report says where nothing else does."""
    if not record.report:
        return record
    try:
        said = domain.parse(record.report)
    except ReportError:
        return record
    view = said.view.upper() if said.view else None
    return replace(
        record, labels=record.labels or labels_of(said, domain), view=record.view or view, sex=record.sex or said.sex,
        age=record.age if record.age is not None else said.age,
    )  # fmt: skip


def stated_values(record: Record, domain: Domain) -> list[float]:
    """1, 0 or NaN for each of the domain's targets; what a report was read to state is all that was asked for."""
    return domain.target_values(record, bool(record.report and record.labels))


def subgroups(record: Record) -> set[str]:
    """Groups that a record is of: age group, sex, view and hospital as far as they are known, and each finding."""
    age = None if record.is_child is None else ("child" if record.is_child else "adult")
    known = {"age group": age, "sex": record.sex, "view": record.view, "hospital": record.hospital}
    return {f"{name} {value}" for name, value in known.items() if value} | {f"finding {x}" for x in record.labels}


def _records(folder: Path, domain: Domain) -> list[Record]:
    if (folder / "metadata.csv").is_file():
        return read_folder(folder, domain.labels)
    if rows := _generated(folder):
        return rows
    pictures = list_pictures(folder).pictures
    return [Record(folder.name, p, str(p.relative_to(folder)), "test") for p in pictures]


def _generated(folder: Path) -> list[Record]:
    """Pictures that a manifest lists with their reports."""
    try:
        rows = json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("images") or []
        listed = [(folder / row["file"], row["report"]) for row in rows if "report" in row]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    kept = [(path, report) for path, report in listed if path.suffix.lower() in PICTURES and path.is_file()]
    return [Record(folder.name, path, report, "test", report=report) for path, report in kept]
