"""Captions that say what is in view and where, so that words carry information.

A radiograph's facts (labels, patient, measured and localised appearance) become short phrases in the language of
reports; a caption is a random selection of them in random order. Every phrase names the region it speaks of, which
is what attention to its words is checked and trained against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from skiagraph.data.captions import Fact, Phrase, caption_text
from skiagraph.data.chest.anatomy import SIDES, ZONES
from skiagraph.data.datasets import Record
from skiagraph.data.reports import Finding, Report

OPAQUE, DENSE, CLEAR = 2.0, 3.5, 0.8
"""Standard scores of zone density: an opacity from the first, a dense one from the second, clear below the third."""

SUSPECT = 1.3
"""Standard score of a zone's density from which a finding that a reader has named is placed there."""

ONE_SIDED, LARGE = 0.6, 1.8
"""Mean standard score of the three signs of a difference between the lung bases (`_lean`): an effusion is on one side
from the first, and a large one from the second."""


WORDINGS: Mapping[str, Sequence[str]] = {
    "view AP": ["AP view", "portable AP view", "AP portable view"],
    "view PA": ["PA view", "frontal PA view"],
    "child": ["child", "pediatric patient", "young child"],
    "adult": ["adult", "adult patient"],
    "male": ["male"],
    "female": ["female"],
    "normal": ["normal chest", "no acute disease", "no finding", "normal chest radiograph"],
    "pneumonia": [
        "{side} {zone} pneumonia",
        "pneumonia in the {side} {zone} zone",
        "{zone} {side} pneumonia",
    ],
    "infiltration": ["{side} {zone} infiltrate", "infiltration in the {side} {zone} zone"],
    "consolidation": ["{side} {zone} consolidation", "consolidation in the {side} {zone} zone"],
    "effusion": ["{side} pleural effusion", "pleural effusion on the {side}"],
    "large effusion": ["large {side} pleural effusion", "large {side} effusion"],
    "atelectasis": ["{side} {zone} atelectasis", "atelectasis in the {side} {zone} zone"],
    "edema": ["pulmonary edema", "edema"],
    "cardiomegaly": ["cardiomegaly", "enlarged heart", "heart is enlarged"],
    "pneumothorax": ["{side} pneumothorax"],
    "nodule": ["nodule", "lung nodule", "pulmonary nodule"],
    "mass": ["mass", "lung mass"],
    "pleural_thickening": ["pleural thickening"],
    "fibrosis": ["fibrosis", "pulmonary fibrosis"],
    "emphysema": ["emphysema"],
    "hernia": ["hiatal hernia", "hernia"],
    "covid19": ["covid-19", "covid-19 pneumonia"],
    "tuberculosis": ["tuberculosis", "pulmonary tuberculosis"],
    "opacity": ["opacity in the {side} {zone} zone", "{side} {zone} zone opacity", "{side} {zone} opacity"],
    "dense opacity": ["dense opacity in the {side} {zone} zone", "dense {side} {zone} zone opacity"],
    "lung opacity": ["opacity in the {side} lung", "{side} lung opacity"],
    "bilateral opacity": ["bilateral opacities", "opacity in both lungs"],
    "no effusion": ["no pleural effusion", "no effusion", "costophrenic angles are clear"],
    "no pneumothorax": ["no pneumothorax", "no pneumothorax is seen"],
    "no consolidation": ["no consolidation", "no focal consolidation", "no airspace consolidation"],
    "no cardiomegaly": ["no cardiomegaly", "heart is not enlarged"],
    "no edema": ["no pulmonary edema", "no edema"],
    "clear lung": ["clear {side} lung", "{side} lung is clear"],
    "clear lungs": ["clear lungs", "lungs are clear", "both lungs are clear"],
    "hyperinflation": ["hyperinflated lungs", "large lung volumes"],
    "low volumes": ["low lung volumes", "small lungs"],
    "smaller lung": ["volume loss in the {side} lung", "smaller {side} lung"],
    "normal heart": ["normal heart size", "heart size is normal"],
    "crop": ["close-up", "detail"],
    "shown": ["{side} lung", "{side} lung in view"],
    "shown heart": ["heart", "heart in view"],
    "shown zone": ["{side} {zone} zone"],
}
"""Phrasings of every fact; blanks without a value vanish."""

SIDED = ("pneumonia", "infiltration", "consolidation", "effusion", "atelectasis")
"""Findings that look like an opacity, which therefore take the side and zone of a one-sided measured one."""


def facts_of(record: Record, scores: Mapping[str, float]) -> list[Fact]:
    """Facts of one full-view radiograph.

    A reader's "normal" outweighs a measure: such a radiograph has no opacity and no large heart, whatever its scores.

    Args:
        record: labels, view, age and sex.
        scores: standard scores from `skiagraph.data.chest.measure.standard_scores`.
    """
    normal = "normal" in record.labels
    lungs = _clear_lungs(scores, below=OPAQUE) if normal else _opacities(scores)
    labels = [_labelled(label, scores) for label in sorted(record.labels)]
    hearts = [] if normal else _heart(scores)
    return _patient(record) + labels + lungs + _shape(scores) + hearts + _absent(record) + _ORGANS


def facts_unmeasured(record: Record) -> list[Fact]:
    """Facts of one full-view radiograph without lungs to measure: those of the label table, and organs."""
    return _patient(record) + [Fact(label) for label in sorted(record.labels)] + _absent(record) + _ORGANS


DENIED = ("effusion", "pneumothorax", "consolidation", "cardiomegaly", "edema")
"""Findings that captions deny now and then, as reports do, where a reader has looked for them."""

LISTS_ALL = ("nih_chestxray14",)
"""Data sets whose label tables name every one of `DENIED` that is there."""


def _absent(record: Record) -> list[Fact]:
    """What a reader did not find: in a chest called normal everything, where label tables are complete the unnamed."""
    if "normal" not in record.labels and record.dataset not in LISTS_ALL:
        return []
    return [Fact(f"no {name}", keep=0.15) for name in DENIED if name not in record.labels]


_ORGANS = [
    *(Fact("shown", side=s, region=f"{s} lung", keep=0.25) for s in SIDES),
    Fact("shown heart", region="heart", keep=0.25),
]
"""Organs named for their own sake, now and then: words for their maps that say nothing of findings."""


def facts_in_crop(facts: Sequence[Fact], visible: Mapping[str, float]) -> list[Fact]:
    """Facts of a crop: those of regions still in view, and which organs and zones these are.

    Args:
        facts: facts of the full view.
        visible: region name to the share of it that lies inside the crop.
    """
    known = [f for f in facts if f not in _ORGANS]
    kept = [f for f in known if f.key in ("child", "adult") or (f.region and visible.get(f.region, 0.0) > 0.6)]
    shown = [Fact("crop", keep=1.0)]
    shown += [Fact("shown", side=s, region=f"{s} lung") for s in SIDES if visible.get(f"{s} lung", 0.0) > 0.4]
    shown += [Fact("shown heart", region="heart")] if visible.get("heart", 0.0) > 0.5 else []
    zones = [(s, z) for s in SIDES for z in ZONES if visible.get(f"{s} {z} zone", 0.0) > 0.7]
    shown += [Fact("shown zone", side=s, zone=z, region=f"{s} {z} zone") for s, z in zones]
    return shown + kept


def words(fact: Fact) -> list[str]:
    """All wordings of a fact; a placed finding's name alone is one more, so that it points to that place too."""
    placed = [word(fact, wording) for wording in WORDINGS[fact.key]]
    named = fact.key in SIDED and fact.side in SIDES
    return placed + ([_plainly(Fact(fact.key)).text] if named else [])


def caption_language() -> Iterable[str]:
    """Every phrase that captions are made of: the corpus of the small tokenizer."""
    for key, wordings in WORDINGS.items():
        for wording, side, zone in product(wordings, ("", "bilateral", *SIDES), ("", *ZONES)):
            yield word(Fact(key, side=side, zone=zone), wording)


def word(fact: Fact, wording: str) -> str:
    """One wording with the fact's side and zone filled in; an opacity without a zone loses the words around it."""
    text = wording.format(side=fact.side, zone=fact.zone)
    if not fact.zone:
        text = text.replace(" zone", "" if not fact.side else " lung")
    if not fact.side:
        text = text.split(" in the ")[0].split(" on the ")[0]
    return " ".join(text.split())


def record_prompt(record: Record) -> str:
    """A prompt from a row of a label table: its findings, view, age group and sex, in fixed wording."""
    facts = [Fact(label) for label in sorted(record.labels)] + _patient(record)
    return caption_text([_plainly(fact) for fact in facts])


def report_prompt(report: Report) -> str:
    """A report in the words the shipped model was trained on: findings that are present, view, age group and sex.

    Absent findings are left out, for a denoiser does not understand "no". A report becomes a normal chest if it states
    no finding, not even one that the model was taught no words for, and calls itself normal or denies findings without
    saying anything that was not understood.
    """
    phrases = [Phrase(text) for f in report.findings if f.present and (text := finding_phrase(f))]
    quiet = not report.present() and (report.normal or (report.absent() and not report.unrecognised))
    if quiet:
        phrases = [_plainly(Fact("normal")), _plainly(Fact("clear lungs"))]
    return caption_text(phrases + [_plainly(fact) for fact in _stated_patient(report)])


def left_out(report: Report) -> tuple[str, ...]:
    """What `report_prompt` drops: findings that the model was taught no words for, and clauses not understood."""
    untaught = [f.text for f in report.findings if f.present and not finding_phrase(f)]
    return tuple(dict.fromkeys([*untaught, *report.unrecognised]))


def finding_phrase(finding: Finding) -> str:
    """A finding in the words the shipped model was trained on; empty where it was taught none for it."""
    known = finding.name in WORDINGS or finding.name in _SYNONYMS
    return _plainly(_stated(finding)).text if known else ""


_SYNONYMS = {"hyperinflation": "hyperinflation", "granuloma": "nodule"}


def _plainly(fact: Fact) -> Phrase:
    """A fact in the first of its wordings."""
    return Phrase(word(fact, WORDINGS[fact.key][0]), fact.region)


def _stated(finding: Finding) -> Fact:
    name = _SYNONYMS.get(finding.name, finding.name)
    side = finding.side if finding.side in SIDES else ""
    zone = finding.zones[0] if finding.zones and side else ""
    if name == "opacity" and not side:
        return Fact("bilateral opacity", region="lungs")
    if name == "opacity" and not zone:
        return Fact("lung opacity", side=side)
    if name == "effusion" and finding.severity == "large":
        name = "large effusion"
    if name == "opacity" and finding.severity == "large":
        name = "dense opacity"
    if finding.side == "bilateral":
        side = "bilateral"
    return Fact(name, side=side, zone=zone)


def _stated_patient(report: Report) -> list[Fact]:
    view = [Fact(f"view {report.view}")] if report.view in ("AP", "PA") else []
    group = [Fact(report.age_group)] if report.age_group else []
    return view + group + ([Fact(report.sex)] if report.sex else [])


def _patient(record: Record) -> list[Fact]:
    facts = [] if record.is_child is None else [Fact("child" if record.is_child else "adult")]
    if record.view in ("AP", "PA"):
        facts.append(Fact(f"view {record.view}"))
    return facts + ([Fact(record.sex)] if record.sex else [])


def _labelled(label: str, scores: Mapping[str, float]) -> Fact:
    """A dataset label; one that looks like an opacity takes the place of the only side that is opaque."""
    if label == "cardiomegaly":
        return Fact(label, region="heart")
    if label == "effusion":
        return _effusion(scores)
    if label not in SIDED:
        return Fact(label, region="lungs" if label == "edema" else None)
    densest = {s: max(ZONES, key=lambda z, s=s: _density(scores, s, z)) for s in SIDES}
    opaque = [s for s in SIDES if _density(scores, s, densest[s]) > SUSPECT]
    if len(opaque) == 2:
        return Fact(label, side="bilateral", region="lungs")
    if not opaque:
        return Fact(label)
    side, zone = opaque[0], densest[opaque[0]]
    return Fact(label, side=side, zone=zone, region=f"{side} {zone} zone")


def _effusion(scores: Mapping[str, float]) -> Fact:
    """On the side whose base is denser, ends higher and belongs to the smaller lung; else on both."""
    lean = (scores["base density difference"] + scores["base height difference"] - scores["area ratio"]) / 3
    if abs(lean) < ONE_SIDED:
        return Fact("effusion", side="bilateral", region="lungs")
    side = "right" if lean > 0 else "left"
    if abs(lean) > LARGE or _density(scores, side, "mid") > DENSE:
        return Fact("large effusion", side=side, region=f"{side} lung")
    return Fact("effusion", side=side, region=f"{side} lower zone")


def _density(scores: Mapping[str, float], side: str, zone: str) -> float:
    return scores[f"density {side} {zone} zone"]


def _shape(scores: Mapping[str, float]) -> list[Fact]:
    facts = []
    if scores["lung height"] > 1.3:
        facts.append(Fact("hyperinflation", region="lungs"))
    if scores["lung height"] < -1.3:
        facts.append(Fact("low volumes", region="lungs"))
    if abs(scores["area ratio"]) > 1.8:
        facts.append(_sided("smaller lung", "left" if scores["area ratio"] > 0 else "right"))
    if abs(scores["heart width"]) < 1:
        facts.append(Fact("normal heart", region="heart"))
    return facts


def _heart(scores: Mapping[str, float]) -> list[Fact]:
    """A wide heart, where its border can be seen: not beside opaque lower zones."""
    hidden = max(_density(scores, s, "lower") for s in SIDES) >= OPAQUE
    return [Fact("cardiomegaly", region="heart")] if scores["heart width"] > 1.8 and not hidden else []


def _clear_lungs(scores: Mapping[str, float], below: float) -> list[Fact]:
    clear = [s for s in SIDES if max(_density(scores, s, z) for z in ZONES) < below]
    both = [Fact("clear lungs", region="lungs")] if len(clear) == 2 else []
    return both + [_sided("clear lung", s) for s in clear]


def _opacities(scores: Mapping[str, float]) -> list[Fact]:
    facts = _clear_lungs(scores, below=CLEAR)
    opaque = {s: [z for z in ZONES if _density(scores, s, z) > OPAQUE] for s in SIDES}
    if all(len(zones) >= 2 for zones in opaque.values()):
        facts.append(Fact("bilateral opacity", region="lungs"))
    for side, zones in opaque.items():
        if len(zones) == len(ZONES):
            facts.append(_sided("lung opacity", side))
        for zone in zones:
            key = "dense opacity" if _density(scores, side, zone) > DENSE else "opacity"
            facts.append(Fact(key, side=side, zone=zone, region=f"{side} {zone} zone"))
    return facts


def _sided(key: str, side: str) -> Fact:
    return Fact(key, side=side, region=f"{side} lung")
