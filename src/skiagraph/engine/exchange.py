"""Data sets in and out: foreign layouts to our folder, and our folder to the layouts others read."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from skiagraph.data.datasets import READERS as KNOWN
from skiagraph.data.datasets import Record, load_records, read_folder, write_folder
from skiagraph.data.dicom import is_dicom
from skiagraph.data.inputs import SUFFIXES
from skiagraph.data.layouts import NEED_MASKS, READERS, WRITERS
from skiagraph.data.layouts.case import Case, Member, classes_of, copy_file, read_labels
from skiagraph.data.layouts.table import COLUMNS
from skiagraph.data.layouts.table import read as read_csv
from skiagraph.data.masks import write_mask
from skiagraph.domains.domain import DEFAULT, load_domain
from skiagraph.engine.card import write_card
from skiagraph.engine.manifest import FILE_NAME, new_manifest, save_manifest
from skiagraph.engine.picture_sets import read_set
from skiagraph.errors import DataError
from skiagraph.files import atomic_path
from skiagraph.plugins import brought
from skiagraph.progress import Listener, progress

SHARES = (70, 10, 20)
"""Shares of patients that train, validate and test, where a layout has no split."""

ORDER = ("train", "val", "test")

LATERAL = ("LATERAL", "LL", "L")
"""Names of views that are left out."""

MAKERS = ("generate", "pairs", "augment")
"""Verbs whose pictures are synthetic."""


def import_set(
    layout: str, source: Path, output: Path, *, shares: Sequence[float] = SHARES, seed: int = 0, redraw: bool = False,
    columns: Mapping[str, str] | None = None, overwrite: bool = False, listen: Listener = progress,
) -> dict[str, Any]:  # fmt: skip
    """Turn a data set in a foreign layout into a folder with `metadata.csv`, which every verb reads.

    Pictures are linked into `images/`, not decoded or copied; masks are linked where they are PNG files, else written.
    A split that is published is kept; other patients, and validation patients where none are published, are drawn.
    Lateral views and files that are not there are left out and counted; findings that have no label of ours and those
    in doubt are counted and are not labels.

    Args:
        layout: a key of `skiagraph.data.layouts.READERS`, or another package's (`skiagraph.plugins`).
        source: folder or file of the data set.
        output: folder to write.
        shares: of patients that train, validate and test, in any unit.
        seed: of the draw.
        redraw: draw all patients anew, whatever is published.
        columns: for the layout csv, names of its columns by ours.
        overwrite: replace what an earlier import wrote.
        listen: hears of progress.

    Returns:
        The manifest as written, with `counts`, `unmapped` (finding: pictures), `in_doubt`, `missing` and `lateral`.

    Raises:
        DataError: no such layout, a source that is not of it, no picture there, one of a kind that is not read, a
            patient in two splits, or an output that is not an earlier import.
    """
    others = brought("skiagraph.layouts")
    if layout not in READERS and layout not in others:
        raise DataError(f"no layout {layout!r}; choose one of {', '.join((*READERS, *others))}")
    if not source.exists():
        raise DataError(f"{source} does not exist; give the folder of the data set")
    reader = READERS.get(layout) or others[layout].load()
    read = read_csv(source, columns) if layout == "csv" else reader(source)
    frontal = [case for case in read if case.view.upper() not in LATERAL]
    cases = [case for case in frontal if _there(case.image)]
    if not cases:
        raise DataError(
            f"none of the {len(frontal)} frontal pictures that {source} names is there; copy its images too"
        )
    for case in cases:
        _check_kind(case.image)
    cases = with_splits(cases, shares, seed, redraw=redraw)
    names = _names([case.image for case in cases], source)
    label_of = load_domain(DEFAULT).label_of
    unmapped = Counter(finding for case in cases for finding in case.findings if label_of(finding) is None)
    with _new_folder(output, "import", overwrite) as folder, listen("importing", len(cases)) as update:
        rows = []
        for number, (name, case) in enumerate(zip(names, cases, strict=True), start=1):
            rows.append(_taken_in(folder, name, case, label_of))
            update(number)
        write_folder(folder, rows, COLUMNS)
        manifest = new_manifest(
            "import", {"layout": layout, "source": str(source.resolve()), "shares": list(shares), "seed": seed},
            counts=_counts(cases), splits=dict(Counter(case.split for case in cases)),
            unmapped=dict(unmapped.most_common()),
            in_doubt=dict(Counter(f for case in cases for f in case.uncertain).most_common()),
            missing=len(frontal) - len(cases), lateral=len(read) - len(frontal), **_origin(source),
        )  # fmt: skip
        save_manifest(folder, manifest)
    return manifest


def export_set(
    source: str, form: str, output: Path, *, overwrite: bool = False, listen: Listener = progress
) -> dict[str, Any]:
    """Write a data set in a layout that others read, complete in itself, with a data card and Croissant metadata.

    Args:
        source: folder with `metadata.csv`, a known data set's name, or what `generate`, `pairs`, `augment` or
            `segment` wrote.
        form: a key of `skiagraph.data.layouts.WRITERS`.
        output: folder to write.
        overwrite: replace what an earlier export wrote.
        listen: hears of progress.

    Returns:
        The manifest as written, with `counts`, and `left_out`, the pictures that the layout has no place for.

    Raises:
        DataError: no such form or source, no picture that the layout can hold, or an output that is no earlier export.
    """
    if form not in WRITERS:
        raise DataError(f"no format {form!r}; choose one of {', '.join(WRITERS)}")
    found = _cases(source)
    cases = sorted((c for c in found if c.mask or form not in NEED_MASKS), key=lambda c: ORDER.index(c.split))
    if not cases:
        raise DataError(
            f"{source} has no picture with a mask, and {form} has no place for others; choose another format"
        )
    stems = [name.rsplit(".", 1)[0].replace(".", "-") for name in _names([c.image for c in cases], Path(source))]
    named = dict(zip(stems, cases, strict=True))
    classes = classes_of(case.mask for case in cases if isinstance(case.mask, Path))
    with _new_folder(output, "export", overwrite) as folder, listen("exporting", len(cases)) as update:
        rows = []
        for number, (files, case) in enumerate(zip(WRITERS[form](named, folder, classes), cases, strict=True), start=1):
            rows.append(_row(case, *files))
            update(number)
        write_folder(folder, rows, COLUMNS, "metadata.csv" if form == "csv" else "cases.csv")
        manifest = new_manifest(
            "export", {"source": Path(source).name, "format": form}, counts=_counts(cases),
            left_out=len(found) - len(cases), **_origin(Path(source)),
        )  # fmt: skip
        save_manifest(folder, manifest)
        write_card(folder, manifest, name=output.name)
    return manifest


def with_splits(cases: Sequence[Case], shares: Sequence[float], seed: int, *, redraw: bool = False) -> list[Case]:
    """The cases with a split each, drawn by patient where none is published.

    Where test patients are published and no validation patients, these are drawn of the training patients, in the
    proportion of the shares.

    Raises:
        DataError: a patient in two published splits, or shares that are not three numbers, the first above 0.
    """
    if len(shares) != 3 or min(shares) < 0 or not shares[0] > 0:
        raise DataError(f"shares {', '.join(map(str, shares))} must be three numbers, for train, val and test")
    known: dict[str, str] = {}
    for case in cases:
        if case.split and not redraw and known.setdefault(case.patient, case.split) != case.split:
            raise DataError(f"patient {case.patient!r} is in two published splits; draw them anew (--redraw)")
    chosen = _drawn({case.patient for case in cases} - set(known), shares, seed)
    if known and "val" not in known.values():
        training = {patient for patient, split in known.items() if split == "train"}
        known |= _drawn(training, (shares[0], shares[1], 0), seed)
    return [replace(case, split=(known | chosen)[case.patient]) for case in cases]


def _drawn(patients: set[str], shares: Sequence[float], seed: int) -> dict[str, str]:
    order = sorted(patients)
    random.Random(seed).shuffle(order)
    val, test = (_share(len(order), share / sum(shares)) for share in shares[1:])
    return {p: "val" if i < val else "test" if i < val + test else "train" for i, p in enumerate(order)}


def _share(number: int, share: float) -> int:
    """That share of a number, at least one of three or more where a share is wanted at all."""
    return max(round(number * share), int(share > 0 and number > 2))


def _there(file: Path | Member) -> bool:
    return isinstance(file, Member) or file.is_file()


def _check_kind(file: Path | Member) -> None:
    known = Path(file.name).suffix.lower() in SUFFIXES
    if not known and (isinstance(file, Member) or not is_dicom(file)):
        raise DataError(f"{file} is no PNG, JPEG, WebP or DICOM file; convert it to PNG")


def _names(files: Sequence[Path | Member], root: Path) -> list[str]:
    """A name for each file, without folders: its own or, where two would have one, with its folders' names."""
    names = [file.name for file in files]
    if len({Path(name).stem for name in names}) == len(names):
        return names
    taken: Counter[str] = Counter()
    for number, file in enumerate(files):
        path = Path(file.member) if isinstance(file, Member) else file
        parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[-3:]
        taken[name := "-".join(parts)] += 1
        names[number] = name if taken[name] == 1 else f"{taken[name]}-{name}"
    return names


def _taken_in(folder: Path, name: str, case: Case, label_of: Callable[[str], str | None]) -> dict[str, Any]:
    labels = {label for label in map(label_of, case.findings) if label}
    labels -= {"normal"} if len(labels) > 1 else set()
    case = replace(case, findings=tuple(sorted(labels)))
    _link(case.image, folder / "images" / name)
    mask = f"masks/{Path(name).stem}.png" if case.mask is not None else ""
    if isinstance(case.mask, Path | Member) and case.mask.name.endswith(".png"):
        _link(case.mask, folder / mask)
    elif case.mask is not None:
        labels_map = read_labels(case.mask, ("region",)) if isinstance(case.mask, Path) else case.mask()
        write_mask(folder / mask, labels_map, case.classes or ("region",))
    return _row(case, f"images/{name}", mask)


def _link(source: Path | Member, target: Path) -> None:
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"{source} is named but missing; copy the data set again")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if isinstance(source, Path):
            os.symlink(source.resolve(), target)
            return
    except (OSError, NotImplementedError):
        pass  # a system without links
    copy_file(source, target)


def _row(case: Case, file: str, mask: str) -> dict[str, Any]:
    return {
        "file": file, "patient": case.patient, "split": case.split, "report": case.report,
        "labels": "|".join(case.findings), "view": case.view, "age": "" if case.age is None else f"{case.age:g}",
        "sex": case.sex, "hospital": case.hospital, "mask": mask, "synthetic": "true" if case.synthetic else "",
    }  # fmt: skip


def _counts(cases: Sequence[Case]) -> dict[str, int]:
    return {
        "pictures": len(cases), "patients": len({case.patient for case in cases}),
        "synthetic": sum(case.synthetic for case in cases), "masks": sum(case.mask is not None for case in cases),
    }  # fmt: skip


def _cases(source: str) -> list[Case]:
    """Pictures of a data set, or of what a verb wrote, as cases; what has no split trains."""
    folder, domain = Path(source), load_domain(DEFAULT)
    manifest = _manifest(folder)
    if manifest.get("verb") == "segment":
        return _segmented(folder, manifest)
    if (folder / "metadata.csv").is_file():
        known = {row.image.name for row in read_csv(folder) if row.synthetic}
        return [_case(record, record.path.name in known, manifest) for record in read_folder(folder, domain.labels)]
    if source in KNOWN:
        return [_case(record, False, {}) for record in load_records([source])]
    return [replace(_case(record, False, manifest), split="train") for record in read_set(source, domain)]


def _case(record: Record, stated: bool, manifest: Mapping[str, Any]) -> Case:
    return Case(
        record.path, record.patient, record.split, tuple(sorted(record.labels)), view=record.view or "", age=record.age,
        sex=record.sex or "", report=record.report or "", hospital=record.hospital or "", mask=record.mask,
        synthetic=stated or manifest.get("verb") in MAKERS or _says_synthetic(record.path),
    )  # fmt: skip


def _segmented(folder: Path, manifest: Mapping[str, Any]) -> list[Case]:
    if manifest["config"].get("form") == "dicom-seg":
        raise DataError(f"{folder} holds DICOM SEG files, which are complete in themselves; segment with --format png")
    pairs = [(Path(row["source"]), folder / row["mask"]) for row in manifest["images"]]
    gone = next((image for image, _ in pairs if not image.is_file()), None)
    if gone:
        raise DataError(f"{gone}, which was segmented, is not there any more; put it back or segment again")
    return [
        Case(image, f"{image.parent.name}-{image.stem}", "train", mask=mask, synthetic=_says_synthetic(image))
        for image, mask in pairs
    ]


def _says_synthetic(path: Path) -> bool:
    """Whether a picture's own metadata says that it is synthetic."""
    try:
        with Image.open(path) as picture:
            return "Synthetic" in picture.info
    except OSError:
        return False


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _origin(source: Path) -> dict[str, Any]:
    """The manifest of the run that made the source, in short, or of the one that an imported set carries."""
    manifest = _manifest(source)
    if manifest.get("verb") in MAKERS:
        prompts = [{"prompt": r.get("prompt")} for r in manifest.get("pairs") or manifest.get("images") or []]
        kept = {name: manifest.get(name) for name in ("verb", "config", "versions", "weights")}
        return {"origin": kept | {"images": prompts}}
    return {"origin": manifest["origin"]} if "origin" in manifest else {}


@contextmanager
def _new_folder(output: Path, verb: str, overwrite: bool) -> Iterator[Path]:
    """A folder that takes its place when the block succeeds."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        if not overwrite:
            raise DataError(f"{output} is there already; choose another --output, or --overwrite")
        if _manifest(output).get("verb") != verb:
            raise DataError(f"{output} was not written by skiagraph {verb}; choose another --output")
    with atomic_path(output) as temporary:
        temporary.mkdir()
        yield temporary
