"""What goes with every synthetic set: a data card (README.md, as Hugging Face reads it) and Croissant metadata.

Croissant: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skiagraph.errors import ModelError
from skiagraph.files import atomic_path, sha256, write_json
from skiagraph.models.registry import model_folder

TABLES = ("metadata.csv", "cases.csv")
MARK = "Not for clinical use."
"""Stands in every card; a README.md without it is somebody's own, and stays."""

SHOWN = 20
"""Prompts that a card shows."""

NUMBERS = {"age": "sc:Float", "seed": "sc:Integer"}
"""Columns that are not text."""

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {
    name: f"cr:{name}"
    for name in (
        "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet",
        "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
        "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
    )
}  # fmt: skip
"""JSON-LD context that the Croissant specification gives."""

ENCODINGS = {"*.tar": "application/x-tar", "**/*.dcm": "application/dicom"}
"""Of files by pattern, where they are not PNG."""


def write_card(folder: Path, manifest: Mapping[str, Any], *, name: str = "") -> None:
    """Write `README.md` and `croissant.json` of a finished run or an export, atomically.

    The card says how many pictures are synthetic, by which model (name, sha256), the prompts, the licence of the data
    that the model was trained on, and that nothing is for clinical use. A README.md that is not ours stays as it is.

    Args:
        folder: of the set; its table is `metadata.csv` or `cases.csv`, or else the manifest's rows.
        manifest: of the run. An export's has `counts` and, where its source was such a run, `origin`, that run's
            manifest.
        name: of the set, where it is not the folder's.
    """
    name = name or folder.resolve().name
    text = _card(name, manifest)
    if "README.md" in card_names(folder):
        with atomic_path(folder / "README.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(folder / "croissant.json", _croissant(folder, manifest, name))


def card_names(folder: Path) -> tuple[str, ...]:
    """Names of what `write_card` writes in a folder: README.md only where none is there or it is ours."""
    path = folder / "README.md"
    own = path.is_file() and MARK not in path.read_text(encoding="utf-8", errors="replace")
    return ("croissant.json",) if own else ("croissant.json", "README.md")


def counts_of(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Pictures, synthetic ones among them and masks, of an export's manifest or a run's rows."""
    if "counts" in manifest:
        return dict(manifest["counts"])
    number = len(_rows(manifest))
    return {"pictures": number, "synthetic": number, "masks": 0 if manifest["verb"] == "generate" else number}


def _rows(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = manifest.get("pairs") or manifest.get("images") or []
    return [row for row in rows if row.get("dropped") is None]


def _card(name: str, manifest: Mapping[str, Any]) -> str:
    counts, origin = counts_of(manifest), manifest.get("origin", manifest)
    tags = ["synthetic", "synthetic-data"] if counts["synthetic"] else []
    front = [
        "---", f"pretty_name: {json.dumps(name)}", "license: other", "license_name: see-below",
        f"tags: {json.dumps(['medical', 'radiology', 'chest-x-ray', *tags])}",
        f"task_categories: {json.dumps(_tasks(counts))}",
        f"size_categories: [{json.dumps(_size(counts['pictures']))}]", "---",
    ]  # fmt: skip
    parts = [*front, f"# {name}", "", _summary(counts, origin), ""]
    if counts["synthetic"]:
        parts += ["## How it was made", "", *_made(origin), ""]
    parts += ["## Licence", "", _licence(counts, origin), ""]
    return "\n".join(parts)


def _summary(counts: Mapping[str, int], origin: Mapping[str, Any]) -> str:
    number, synthetic = counts["pictures"], counts["synthetic"]
    which = "All of them are" if synthetic == number else f"{synthetic} of them are"
    painted = " They are pictures of real patients, painted inside a mask." if origin.get("verb") == "augment" else ""
    said = f"**{which} synthetic: made by a model.**{painted} " if synthetic else ""
    return f"{number} pictures, {counts['masks']} of them with a mask. {said}For research. {MARK}"


def _made(origin: Mapping[str, Any]) -> list[str]:
    config = origin.get("config", {})
    if not config.get("model"):
        return ["By skiagraph; which model made the synthetic pictures is not stated in the source."]
    prompts = list(dict.fromkeys(row["prompt"] for row in _rows(origin) if row.get("prompt")))
    lines = [f"By `skiagraph {origin.get('verb')}`, version {(origin.get('versions') or {}).get('skiagraph')}.", ""]
    lines += [f"Model: {Path(config['model']).name}", "", "| weights | sha256 |", "| --- | --- |"]
    lines += [f"| {file} | `{digest}` |" for file, digest in (origin.get("weights") or {}).items()]
    lines += ["", f"Prompts: {len(prompts)}" + (f", the first {SHOWN} of them:" if len(prompts) > SHOWN else ":"), ""]
    return lines + [f"- {' '.join(prompt.split())}" for prompt in prompts[:SHOWN]]


def _licence(counts: Mapping[str, int], origin: Mapping[str, Any]) -> str:
    """What holds for the synthetic pictures, and for those that are real or painted on real ones."""
    parts = [_model_licence(origin)] if counts["synthetic"] else []
    if counts["synthetic"] < counts["pictures"] or origin.get("verb") == "augment":
        parts.append("For real pictures that of their data set holds, which is not known here; ask before sharing.")
    return " ".join(parts)


def _model_licence(origin: Mapping[str, Any]) -> str:
    """What the model's own card says of its licence and training data."""
    try:
        text = (model_folder(origin["config"]["model"]) / "README.md").read_text(encoding="utf-8")
    except (KeyError, TypeError, OSError, ModelError):
        return "The model has no card that states the licence of its training data; find out before sharing."
    weights = re.search(r"^license:\s*(\S+)", text, re.M)
    data = re.search(r"^\*\*Data\.\*\*\s*(.+?)\n\n", text, re.M | re.S)
    said = " ".join(data[1].split()) if data else "not stated in the model's card; find out before sharing."
    return f"Weights: {weights[1] if weights else 'not stated'}. The model's training data: {said}"


def _tasks(counts: Mapping[str, int]) -> list[str]:
    return ["image-segmentation"] if counts["masks"] else ["text-to-image", "image-classification"]


def _size(number: int) -> str:
    if number < 1000:
        return "n<1K"
    return next((f"{a}<n<{b}" for limit, a, b in ((10_000, "1K", "10K"), (100_000, "10K", "100K")) if number < limit),
                "100K<n<1M")  # fmt: skip


def _croissant(folder: Path, manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    counts, origin = counts_of(manifest), manifest.get("origin", manifest)
    table = next((name for name in TABLES if (folder / name).is_file()), "manifest.json")
    fields = _fields(folder / table, table, manifest)
    kinds = (kind for kind in ENCODINGS if any(folder.glob(kind)))
    pattern = next(kinds, "**/*.*")
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": re.sub(r"[^\w-]+", "-", name) or "set",
        "description": " ".join([_summary(counts, origin).replace("*", ""), *_made(origin)[:1]]),
        "license": _licence(counts, origin),
        "version": "1.0.0",
        "datePublished": str(manifest.get("created", ""))[:10],
        "keywords": ["synthetic"] if counts["synthetic"] else [],
        "distribution": [
            {
                "@type": "cr:FileObject", "@id": table, "name": table, "contentUrl": table,
                "encodingFormat": "text/csv" if table.endswith(".csv") else "application/json",
                "sha256": sha256(folder / table),
            },
            {
                "@type": "cr:FileSet", "@id": "files", "name": "files", "includes": pattern,
                "encodingFormat": ENCODINGS.get(pattern, "image/png"),
            },
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "pictures", "name": "pictures", "field": fields}],
    }  # fmt: skip


def _fields(path: Path, table: str, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One field for each column of the table, or each plain value of the manifest's rows."""
    if table.endswith(".csv"):
        with open(path, encoding="utf-8") as stream:
            names: Sequence[str] = stream.readline().strip().split(",")
        return [_field(name, table, {"column": name}) for name in names]
    names = [
        name
        for name in ("file", "report", "prompt", "seed", "sha256")
        if _rows(manifest) and name in _rows(manifest)[0]
    ]
    return [_field(name, table, {"jsonPath": f"$.images[*].{name}"}) for name in names]


def _field(name: str, table: str, extract: dict[str, str]) -> dict[str, Any]:
    source = {"fileObject": {"@id": table}, "extract": extract}
    kind = NUMBERS.get(name, "sc:Text")
    return {"@type": "cr:Field", "@id": f"pictures/{name}", "name": name, "dataType": kind, "source": source}
