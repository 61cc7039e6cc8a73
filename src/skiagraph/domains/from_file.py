"""Domains from YAML files: words, labels, regions, colour, mask settings, folders of networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from skiagraph.data.captions import Fact, Phrase, caption_text
from skiagraph.data.datasets import Record
from skiagraph.data.reports import Finding, Report
from skiagraph.domains.domain import Domain
from skiagraph.errors import DataError, one_line
from skiagraph.masks.settings import RADIOGRAPHS, CRFWidths, MaskSettings

IN_VIEW = 0.6
"""Share of its region from which a crop shows a label."""

Words = Mapping[str, list[str]]


class _Masks(BaseModel):
    model_config = ConfigDict(extra="forbid")
    thresholds: list[float] = Field(list(RADIOGRAPHS.thresholds), min_length=1)
    background: float = Field(RADIOGRAPHS.background, ge=0, le=1)
    label_crf: CRFWidths = RADIOGRAPHS.label_crf
    threshold_crf: CRFWidths = RADIOGRAPHS.threshold_crf


class _DomainFile(BaseModel):
    """`words` has the wordings of each label; a label with a region's name speaks of that region.

    `regions` are the segmenter's classes in its order, without the background.
    """

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1)
    words: dict[str, list[str]] = Field(min_length=1)
    regions: list[str] = []
    colour: bool = False
    segmenter: str | None = None
    judge: str | None = None
    masks: _Masks = _Masks()

    @model_validator(mode="after")
    def _whole(self) -> _DomainFile:
        bare = [label for label, wordings in self.words.items() if not any(map(str.strip, wordings))]
        if bare:
            raise ValueError(f"words of {', '.join(bare)} are empty")
        return self


def read_domain(path: Path) -> Domain:
    """The domain that a YAML file describes; its folders may be relative to the file.

    Raises:
        DataError: it cannot be read, is not YAML, or a field is unknown, missing or out of range.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"domain {path} cannot be read: {one_line(error)}") from error
    except yaml.YAMLError as error:
        raise DataError(f"domain {path} is not valid YAML: {one_line(error)}") from error
    if isinstance(fields, dict):
        beside = {
            k: str((path.parent / v).resolve()) for k in ("segmenter", "judge") if _beside(path, v := fields.get(k))
        }
        fields |= beside
    return domain_of_fields(fields, f"domain {path}")


def domain_of_fields(fields: Any, where: str) -> Domain:
    """The domain of a file's fields; `where` they come from is named in errors, which are as `read_domain`'s."""
    try:
        given = _DomainFile.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise DataError(f"{where} does not validate: {faults}") from error
    regions, words = tuple(given.regions), given.words
    return Domain(
        name=given.name,
        stored=dict(fields),
        labels=tuple(words),
        label_of=lambda name: name if name in words else None,
        regions=regions,
        word_groups={region: [region] for region in regions},
        classes=regions,
        class_words={region: (words[region][0],) for region in regions if region in words},
        segmenter=given.segmenter,
        segmenter_values={region: (k,) for k, region in enumerate(regions, start=1)},
        affinity=None,
        judge=given.judge,
        colour=given.colour,
        measures=(),
        scores=lambda records, *_: ([None] * len(records), {}),
        masks=MaskSettings(
            tuple(given.masks.thresholds), given.masks.background, given.masks.label_crf, given.masks.threshold_crf
        ),
        facts=partial(_facts, regions),
        in_crop=_in_crop,
        words=lambda fact: words[fact.key],
        language=lambda: [wording for wordings in words.values() for wording in wordings],
        record_prompt=lambda record: caption_text([Phrase(words[label][0]) for label in sorted(record.labels)]),
        targets=tuple(words),
        target_values=partial(_target_values, tuple(words)),
        parse=partial(_parse, words),
        prompt_of=partial(_prompt_of, words),
        left_out=lambda text: _parse(words, text).unrecognised,
        regions_of=partial(_regions_of, regions),
        rough=None,
        markers=None,
        edits=None,
    )


def _beside(path: Path, value: Any) -> bool:
    return isinstance(value, str) and (path.parent / value).is_dir()


def _facts(regions: Sequence[str], record: Record, scores: Mapping[str, float] | None) -> list[Fact]:
    return [Fact(label, region=label if label in regions else None) for label in sorted(record.labels)]


def _target_values(labels: Sequence[str], record: Record, complete: bool) -> list[float]:
    absent = 0.0 if complete or record.labels else float("nan")
    return [1.0 if label in record.labels else absent for label in labels]


def _in_crop(facts: Sequence[Fact], visible: Mapping[str, float]) -> list[Fact]:
    return [f for f in facts if f.region and visible.get(f.region, 0.0) > IN_VIEW]


def _parse(words: Words, text: str) -> Report:
    """Labels that each clause of a text states; one that denies or names nothing known is not recognised."""
    clauses = [clause.strip() for clause in re.split(r"[.;,\n]|\band\b", text) if clause.strip()]
    stated = {clause: _stated(words, clause.lower()) for clause in clauses}
    return Report(
        findings=tuple(Finding(label, True, text=clause) for clause in clauses for label in stated[clause]),
        unrecognised=tuple(clause for clause in clauses if not stated[clause]),
    )


def _stated(words: Words, clause: str) -> list[str]:
    if re.search(r"\b(no|not|without)\b", clause):
        return []
    return [
        name for name, some in words.items() if any(re.search(rf"\b{re.escape(w.lower())}\b", clause) for w in some)
    ]


def _prompt_of(words: Words, text: str) -> str:
    return caption_text([Phrase(words[label][0]) for label in _parse(words, text).present()])


def _regions_of(regions: Sequence[str], found: np.ndarray) -> dict[str, np.ndarray] | None:
    return {region: found == k for k, region in enumerate(regions, start=1)} if found.any() else None
