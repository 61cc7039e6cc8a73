"""A domain: what models and masks of one kind of picture have to know of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from skiagraph.data.captions import Fact
from skiagraph.data.datasets import Record
from skiagraph.data.masks import Regions
from skiagraph.data.reports import Finding, Report, Wish
from skiagraph.errors import DataError
from skiagraph.masks.settings import MaskSettings
from skiagraph.plugins import brought

DEFAULT = "chest"
"""The domain of recipes and models that name none."""

SHIPPED = {"chest": "CHEST", "colonoscopy": "COLONOSCOPY"}
"""Objects of the domains that ship, in the modules of these names."""

Scores = Mapping[str, float]
"""Measures by name, in standard deviations from a cohort's mean."""

Cohorts = Mapping[str, Mapping[str, tuple[float, float]]]
"""Mean and standard deviation of every measure by cohort."""


@dataclass(frozen=True)
class Edits:
    """What edits have to know of a kind of picture.

    read_wish: what an edit is to do, from reports of the picture wanted and of the image as it is, "" of a normal one.
    words: of prompts that name anatomy.
    regions: all regions from masks of organs; a DataError where an organ is missing that others are found by.
    place: where any of some findings lies, bool (H, W), grown by a share of the picture's side.
    still: regions that hold still.
    direction: 1 where all findings that come, and that go, make their places brighter, -1 where darker, else 0.
    changes: mean change of places between two pictures (H, W) in [0, 1]; positive is brighter.
    placed: whether a finding's place changed as it should, for it was to come (or go), and more than elsewhere; None
        where its place is not known.
    """

    read_wish: Callable[[str, str], Wish]
    words: tuple[str, ...]
    regions: Callable[[Regions], Regions]
    place: Callable[[Sequence[Finding], Regions, float], np.ndarray]
    still: tuple[str, ...]
    direction: Callable[[Sequence[Finding], Sequence[Finding]], int]
    changes: Callable[[np.ndarray, np.ndarray, Regions], dict[str, float]]
    placed: Callable[[Finding, bool, np.ndarray, np.ndarray, Regions], bool | None]


@dataclass(frozen=True)
class Domain:
    """What is known of one kind of picture.

    name: of the domain.
    stored: what a model's `model_index.json` says of it: its name or, of a domain from a file, the file's fields.
    labels: names of findings that a data set's `labels` may have.
    label_of: which of these another data set's name of a finding means; None where none does.
    regions: names of regions that phrases may speak of, in the order of training's maps.
    word_groups: regions whose words are judged together in validation.
    classes: what `pairs` masks unless told otherwise.
    class_words: words whose maps make up a class; any other class is its own word.
    segmenter: name or folder of the default segmenter; None where there is none.
    segmenter_values: the segmenter's values that make up each class it knows.
    affinity: name or folder of an AffinityNet of the segmenter's classes; None where runs train their own.
    judge: name or folder of the classifier that reads findings; None where there is none.
    colour: whether pictures have three channels.
    measures: what is measured on a picture for its facts; empty where nothing is.
    scores: standard scores of `measures` (None where unknown) and the normal cohorts they refer to, from records, grey
        pictures uint8 (H, W), the segmenter's label maps (H, W) and cohorts fitted before or None.
    masks: how heat maps become masks.
    facts: what a caption may say of a whole picture, from its record and its scores or None.
    in_crop: of these facts, those of a crop, from the share in [0, 1] of each region that it shows.
    words: all wordings of a fact.
    language: every phrase of captions, the corpus of a small tokenizer.
    record_prompt: a row of a label table in the words of captions.
    targets: what a classifier says of a picture: labels, and attributes that are none.
    target_values: 1, 0 or NaN (unknown) for each target of a record, whose labels are said to be complete or not.
    parse: what a report states.
    prompt_of: a report in the words of captions; "" where it names nothing known.
    left_out: what `prompt_of` drops of a report.
    regions_of: masks bool (H, W) of `regions` from a segmenter's label map (H, W); None where they were not found.
    rough: such a label map by thresholds alone, from a picture (H, W) in [0, 1]; None where nothing finds one.
    markers: bool (H, W) of letters, markers and devices, which a generator need not learn, from a picture (H, W) in
        [0, 1]; None where nothing finds them.
    edits: what edits have to know; None where there are none.
    """

    name: str
    stored: str | Mapping[str, Any]
    labels: tuple[str, ...]
    label_of: Callable[[str], str | None]
    regions: tuple[str, ...]
    word_groups: Mapping[str, Sequence[str]]
    classes: tuple[str, ...]
    class_words: Mapping[str, tuple[str, ...]]
    segmenter: str | None
    segmenter_values: Mapping[str, tuple[int, ...]]
    affinity: str | None
    judge: str | None
    colour: bool
    measures: tuple[str, ...]
    scores: Callable[
        [Sequence[Record], Sequence[np.ndarray], Sequence[np.ndarray], Cohorts | None],
        tuple[Sequence[Scores | None], Cohorts],
    ]
    masks: MaskSettings
    facts: Callable[[Record, Scores | None], list[Fact]]
    in_crop: Callable[[Sequence[Fact], Mapping[str, float]], list[Fact]]
    words: Callable[[Fact], Sequence[str]]
    language: Callable[[], Iterable[str]]
    record_prompt: Callable[[Record], str]
    targets: tuple[str, ...]
    target_values: Callable[[Record, bool], list[float]]
    parse: Callable[[str], Report]
    prompt_of: Callable[[str], str]
    left_out: Callable[[str], tuple[str, ...]]
    regions_of: Callable[[np.ndarray], Regions | None]
    rough: Callable[[np.ndarray], np.ndarray] | None
    markers: Callable[[np.ndarray], np.ndarray] | None
    edits: Edits | None


def load_domain(source: str | Path | Mapping[str, Any]) -> Domain:
    """A domain by name, by the path of its YAML file, or by such a file's fields.

    Names are those that ship, and entry points of the group `skiagraph.domains`.

    Raises:
        DataError: no such name or file, or a field that is wrong; the message names file and field.
    """
    from skiagraph.domains.from_file import domain_of_fields, read_domain

    if isinstance(source, Mapping):
        return domain_of_fields(source, "the model's domain")
    if Path(source).suffix in (".yaml", ".yml"):
        return read_domain(Path(source))
    return _named(str(source))


def model_domain(folder: Path) -> Domain:
    """The domain that a model's folder names; the chest where it names none."""
    index = folder / "model_index.json"
    fields = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    return load_domain(fields.get("domain", DEFAULT))


@cache
def _named(name: str) -> Domain:
    if name in SHIPPED:
        return getattr(import_module(f"skiagraph.domains.{name}"), SHIPPED[name])
    found = brought("skiagraph.domains")
    if name not in found:
        known = ", ".join(sorted({*SHIPPED, *found}))
        raise DataError(f"no domain {name!r}; known: {known}, or the path of a file that ends in .yaml")
    return found[name].load()
