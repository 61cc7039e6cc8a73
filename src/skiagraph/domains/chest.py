"""Chest radiographs."""

from __future__ import annotations

from collections.abc import Mapping

from skiagraph.data.captions import Fact
from skiagraph.data.chest import captions
from skiagraph.data.chest.anatomy import REGIONS, WORDS, complete_regions, regions_of_lungs
from skiagraph.data.chest.changes import density_changes, direction_of, placed_as_named
from skiagraph.data.chest.labels import LABELS, label_of
from skiagraph.data.chest.markers import marker_mask
from skiagraph.data.chest.measure import MEASURE_NAMES, scores_of
from skiagraph.data.chest.reports import parse_report
from skiagraph.data.chest.roi import roi_of_all
from skiagraph.data.chest.targets import TARGETS, targets_of
from skiagraph.data.chest.threshold_lungs import rough_labels
from skiagraph.data.chest.wishes import read_wish
from skiagraph.data.datasets import Record
from skiagraph.domains.domain import Domain, Edits
from skiagraph.masks.settings import RADIOGRAPHS


def _facts(record: Record, scores: Mapping[str, float] | None) -> list[Fact]:
    return captions.facts_of(record, scores) if scores else captions.facts_unmeasured(record)


def _prompt_of(text: str) -> str:
    return captions.report_prompt(parse_report(text))


def _left_out(text: str) -> tuple[str, ...]:
    return captions.left_out(parse_report(text))


CHEST = Domain(
    name="chest",
    stored="chest",
    labels=LABELS,
    label_of=label_of,
    regions=REGIONS,
    word_groups={
        "right lung": ["right lung"],
        "left lung": ["left lung"],
        "heart": ["heart"],
        "opacity": [name for name in REGIONS if name.endswith("zone")],
    },
    classes=("lung",),
    class_words={
        "lung": ("right lung", "left lung"),
        "right lung": ("right lung",),
        "left lung": ("left lung",),
        "heart": ("heart",),
    },
    segmenter="lung-segmenter",
    segmenter_values={"lung": (1, 2), "right lung": (1,), "left lung": (2,)},
    affinity="affinity-net",
    judge="cxr-classifier",
    colour=False,
    measures=MEASURE_NAMES,
    scores=scores_of,
    masks=RADIOGRAPHS,
    facts=_facts,
    in_crop=captions.facts_in_crop,
    words=captions.words,
    language=captions.caption_language,
    record_prompt=captions.record_prompt,
    targets=TARGETS,
    target_values=targets_of,
    parse=parse_report,
    prompt_of=_prompt_of,
    left_out=_left_out,
    regions_of=regions_of_lungs,
    rough=rough_labels,
    markers=marker_mask,
    edits=Edits(
        read_wish=read_wish,
        words=WORDS,
        regions=complete_regions,
        place=roi_of_all,
        still=("lungs", "heart"),
        direction=direction_of,
        changes=density_changes,
        placed=placed_as_named,
    ),
)
