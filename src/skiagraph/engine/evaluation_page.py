"""The page of an evaluation: one HTML file with tables, pictures and plots in it, for a screen, a phone or paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from PIL import Image

import skiagraph
from skiagraph.data.datasets import Record
from skiagraph.data.images import read_radiograph, square
from skiagraph.evaluation.result import MetricResult
from skiagraph.files import atomic_path

TILE = 160
WIDTH, HEIGHT = 640, 220


@dataclass(frozen=True)
class Section:
    """Metrics of one question, with what a reader must know to read them."""

    title: str
    note: str
    results: list[MetricResult]


def write_page(
    path: Path, config: Mapping[str, Any], counts: Mapping[str, int], sections: Sequence[Section],
    shown: Mapping[str, Sequence[Record]], failed: Mapping[str, str], *,
    title: str = "Synthetic pictures against real ones", sentences: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write the page.

    Args:
        path: of the HTML file.
        config: what was evaluated.
        counts: pictures of each set.
        sections: with `title`, `note` and `results`.
        shown: records whose pictures are shown, by what they are.
        failed: why pictures could not be read, by path.
        title: of the page.
        sentences: what comes out, in words, above all tables.
    """
    template = Environment(autoescape=True).from_string(
        files("skiagraph").joinpath("engine/evaluation_page.html").read_text(encoding="utf-8")
    )
    tables = [
        {"title": s.title, "note": s.note, "rows": [_row(r) for r in s.results], "plot": _plot(s.results)}
        for s in sections
    ]
    pictures = {title: [_tile(record) for record in records] for title, records in shown.items()}
    html = template.render(
        config=config, counts=counts, tables=tables, pictures=pictures, failed=failed, version=skiagraph.__version__,
        title=title, sentences=sentences,
    )  # fmt: skip
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def against_floor(result: MetricResult) -> str:
    """In a word, how a value lies to its floor: the interval holds it, or it is better or worse."""
    if result.floor is None:
        return ""
    if result.low <= result.floor <= result.high:
        return "like it"
    return "better" if (result.value > result.floor) == (result.direction == "higher") else "worse"


def _row(result: MetricResult) -> dict[str, str]:
    return {
        "name": result.name, "extractor": result.extractor or "", "value": _number(result.value),
        "interval": f"{_number(result.low)} to {_number(result.high)}" if result.low != result.high else "",
        "floor": "" if result.floor is None else _number(result.floor), "against": against_floor(result),
        "n": str(result.n), "direction": result.direction,
    }  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _tile(record: Record) -> dict[str, str]:
    pixels = square(read_radiograph(record.path).pixels, TILE, fit="pad")
    stream = io.BytesIO()
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
    code = base64.b64encode(stream.getvalue()).decode()
    return {"source": f"data:image/jpeg;base64,{code}", "text": record.report or ", ".join(sorted(record.labels))}


def _plot(results: Sequence[MetricResult]) -> dict[str, str] | None:
    """Two lines, real and synthetic, as points of an SVG, where a result holds spectra."""
    found = next((r.details for r in results if {"real", "synthetic"} <= r.details.keys()), None)
    if found is None:
        return None
    both = np.array([found["real"], found["synthetic"]])
    low, high = both.min(), both.max()
    x = np.linspace(0, WIDTH, both.shape[1])
    lines = HEIGHT * (1 - (both - low) / max(high - low, 1e-9))
    points = [" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, line, strict=True)) for line in lines]
    return {"real": points[0], "synthetic": points[1], "width": str(WIDTH), "height": str(HEIGHT)}
