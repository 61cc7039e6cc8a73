"""The evaluation job: folders of real and synthetic pictures in, metrics with intervals and a report out; resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from skiagraph.data.datasets import Record
from skiagraph.data.edit_sets import read_edits
from skiagraph.devices import AUTO
from skiagraph.domains.domain import DEFAULT, load_domain
from skiagraph.engine.edit_measures import EditMeasures, edits, measured_edits
from skiagraph.engine.evaluation_page import Section, write_page
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.engine.job import Run, open_run, plain
from skiagraph.engine.picture_features import OVERLAPS, Measures, PictureSet, measured, planted
from skiagraph.engine.picture_sets import read_set, stated_values, subgroups, text_of
from skiagraph.engine.study import StudyConfig
from skiagraph.engine.utility import FOLDER as UTILITY
from skiagraph.engine.utility import utility
from skiagraph.errors import EvaluationError
from skiagraph.evaluation import (
    CopyCheck,
    MetricResult,
    auroc,
    frechet_distance,
    frechet_radiomics_distance,
    kernel_distance,
)
from skiagraph.evaluation.copies import THUMBNAIL
from skiagraph.evaluation.extractors import RADIOMICS, DualEncoder, Extractor, load_extractor
from skiagraph.evaluation.features import EXTRACTOR as CLASSIFIER
from skiagraph.evaluation.image_text import image_text_scores
from skiagraph.evaluation.judges import ClassifierJudge
from skiagraph.evaluation.lpips import Lpips
from skiagraph.evaluation.mask_shapes import MEASURES, shape_distances
from skiagraph.evaluation.membership import membership_inference
from skiagraph.evaluation.neighbours import prdc
from skiagraph.evaluation.overlap import pooled
from skiagraph.evaluation.result import mean_result
from skiagraph.evaluation.spectrum import spectrum_distance
from skiagraph.files import write_json
from skiagraph.models.hub import is_hub_id
from skiagraph.models.registry import DEFAULT_SEGMENTER, shipped_models
from skiagraph.pipelines.organs import load_segmenter
from skiagraph.progress import Listener, progress

RESULTS = "results.json"
PAGE = "report.html"
MADE = "synthetic"
"""Folder of the pictures that a model made."""

CLAIMED = ("features", MADE, UTILITY, RESULTS, PAGE)

EXTRACTORS = (CLASSIFIER, "imagenet-efficientnet-lite0", THUMBNAIL)
"""Where none are named: one that knows radiographs, one that minds texture, one that knows nothing."""

FEWEST = 20
"""Pictures that a set, a subgroup or masks need on either side; an AUROC needs half as many of each kind."""

PLANTED = 100
"""Training pictures that are altered and planted as copies."""

SHOWN = 8
"""Pictures of each kind on the page."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is evaluated: folders as `skiagraph.engine.picture_sets.read_set` reads them.

    `train` is what the generator was trained on, for the check for copies; `real` then is of other patients. `judge` is
    a classifier of findings by name or folder, `segmenter` a model that finds masks again, where both sets have them,
    and lungs in edits. `edits` is a folder or table of edited pictures, as `read_edits` takes it, which may come in the
    place of `synthetic` or beside it; `lpips` is a file for their `Lpips`. Where `synthetic` is a text-to-image model,
    by folder, name or Hub id, `make` pictures of the real ones' reports or labels are made first in `dtype`, by default
    as many as there are. With `utility`, classifiers are trained on `synthetic` and on `train`.
    """

    real: str
    synthetic: str | None = None
    train: str | None = None
    extractors: tuple[str, ...] = EXTRACTORS
    judge: str = CLASSIFIER
    segmenter: str = DEFAULT_SEGMENTER
    seed: int = 0
    edits: str | None = None
    lpips: str | None = None
    make: int | None = None
    utility: bool = False
    dtype: str = "float32"
    device: str = AUTO


def evaluate(
    config: EvaluateConfig, output: Path, *, overwrite: bool = False, listen: Listener = progress
) -> dict[str, Any]:
    """Measure synthetic pictures against real ones, and write `results.json` and the self-contained `report.html`.

    Args:
        config: which pictures, and by what.
        output: folder of the report; features are kept in it, so that the same command goes on where it stopped.
        overwrite: remove what another run left in `output`.
        listen: hears of progress.

    Returns:
        The manifest, with `sections`: title, note and results of each.

    Raises:
        DataError: a folder that is not there or holds no pictures.
        EvaluationError: nothing to evaluate, an unknown extractor, too few pictures, or a patient both in `real` and in
            `train`.
        SkiagraphError: `output` holds another run.
    """
    _check_config(config)
    extractors = [load_extractor(name) for name in config.extractors]
    pairs = read_edits(config.edits) if config.edits else []
    lpips = Lpips(config.lpips) if config.lpips else None
    judge = ClassifierJudge(config.judge)
    stored = plain(config, "device")
    with open_run(output, "evaluate", stored, overwrite=overwrite, listen=listen) as run:
        records = _records(config, run)
        with_masks = "synthetic" in records and all(any(r.mask for r in records[n]) for n in ("real", "synthetic"))
        segmenter = load_segmenter(config.segmenter) if with_masks or pairs else None
        whole = Measures(extractors, judge, segmenter if with_masks else None, config.segmenter)
        run.claim(*CLAIMED)
        sets = {
            name: measured(run, name, found, whole if name != "train" else Measures(extractors))
            for name, found in records.items()
        }
        sections = list(_sections(sets, extractors, config)) if "synthetic" in sets else []
        if pairs:
            measures = EditMeasures(extractors, judge, segmenter, config.segmenter, lpips)
            others = {e.name: sets["real"].features(e.name) for e in extractors}
            sections.append(edits(pairs, measured_edits(run, pairs, measures), others, config.judge, config.seed))
        if config.utility:
            sections.append(utility(run, records, StudyConfig(config.train, task="classify", device=config.device)))
        listed = [{"title": s.title, "note": s.note, "results": [_stored(r) for r in s.results]} for s in sections]
        counts = {name: len(found) for name, found in sets.items()}
        failed = {path: why for found in sets.values() for path, why in found.failed.items()}
        write_json(output / RESULTS, {"config": stored, "pictures": counts, "sections": listed})
        write_page(output / PAGE, stored, counts, sections, _shown(sets, sections), failed)
        return run.finish(pictures=counts, failed=failed, sections=listed)


def compare(first: Path, second: Path) -> list[dict[str, Any]]:
    """Metrics that two evaluations share: name, extractor, both values and intervals, and which of them is better.

    `better` is "first" or "second" where the intervals do not touch, else "". That is a cautious reading, not a test.

    Raises:
        EvaluationError: a folder without results, or results of different protocols.
    """
    found = [{(r["name"], r["extractor"]): r for r in _results(folder)} for folder in (first, second)]
    rows = []
    for key in [k for k in found[0] if k in found[1]]:
        a, b = (side[key] for side in found)
        if a["protocol"] != b["protocol"]:
            raise EvaluationError(f"{first} and {second} were made by different protocols; evaluate one of them again")
        apart = a["high"] < b["low"] or b["high"] < a["low"]
        higher = "first" if a["value"] > b["value"] else "second"
        lower = "second" if higher == "first" else "first"
        better = (higher if a["direction"] == "higher" else lower) if apart else ""
        rows.append({"name": key[0], "extractor": key[1], "first": a, "second": b, "better": better})
    return rows


def _results(folder: Path) -> list[dict[str, Any]]:
    try:
        sections = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["sections"]
        return [result for section in sections for result in section["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{folder} holds no {RESULTS} of an evaluation ({error})") from error


def _check_config(config: EvaluateConfig) -> None:
    if not (config.synthetic or config.edits):
        raise EvaluationError("nothing to evaluate; give synthetic pictures, edits, or both")
    if config.lpips and not config.edits:
        raise EvaluationError("--lpips measures edits; give --edits")
    if config.utility and not (config.synthetic and config.train):
        raise EvaluationError("--utility trains on synthetic pictures and on real ones; give --synthetic and --train")


def _records(config: EvaluateConfig, run: Run) -> dict[str, list[Record]]:
    """Real, training and synthetic pictures, those that are given; what can be read is read before any is made."""
    domain = load_domain(DEFAULT)
    found = {name: read_set(text, domain) for name, text in (("real", config.real), ("train", config.train)) if text}
    if config.synthetic:
        found["synthetic"] = read_set(_synthetic(config, found["real"], run), domain)
    return found


def is_model(text: str) -> bool:
    """Whether what is called synthetic pictures is a model that makes them; a folder of pictures goes first."""
    folder = Path(text).expanduser()
    if folder.is_dir():
        return (folder / "model_index.json").is_file()
    return text in shipped_models() or is_hub_id(text)


def _synthetic(config: EvaluateConfig, real: list[Record], run: Run) -> str:
    """The folder of synthetic pictures, made first where a model is given."""
    if not is_model(config.synthetic):
        return config.synthetic
    domain = load_domain(DEFAULT)
    texts = [text_of(r, domain) for r in real if r.report or r.labels]
    if not texts:
        raise EvaluationError(f"{config.real} has neither reports nor labels to make pictures of; give --synthetic DIR")
    run.claim(*CLAIMED)
    asked = tuple(islice(cycle(texts), config.make or len(texts)))
    made = GenerateConfig(asked, config.synthetic, seed=config.seed, dtype=config.dtype, device=config.device)
    folder = run.output / MADE
    generate(made, folder, listen=run.listen)
    return str(folder)


def _sections(sets: dict[str, PictureSet], extractors: list[Extractor], config: EvaluateConfig) -> Iterator[Section]:
    real, synthetic = sets["real"], sets["synthetic"]
    names = [extractor.name for extractor in extractors]
    made = [
        fidelity(real, synthetic, names, config.seed),
        alignment(real, synthetic, config.judge, [e for e in extractors if isinstance(e, DualEncoder)], config.seed),
        masks(real, synthetic, config.seed),
        by_subgroup(real, synthetic, [name for name in names if name != RADIOMICS], config),
    ]
    yield from (section for section in made if section.results)
    strangers = [e for e in extractors if e.name not in (CLASSIFIER, RADIOMICS)]
    if "train" in sets and strangers:
        yield privacy(sets["train"], real, synthetic, strangers, config.seed)


def fidelity(real: PictureSet, synthetic: PictureSet, extractors: list[str], seed: int) -> Section:
    """Distances to one half of the real patients, beside those of the other half: the floor at equal n."""
    reference, drawn, floor = _thirds(real, synthetic, seed)
    results = []
    for name in extractors:
        sides = [s.features(name) for s in (reference, drawn, floor)]
        if name == RADIOMICS:
            results.append(_beside(frechet_radiomics_distance, *sides, extractor=name))
            continue
        results += [_beside(metric, *sides, extractor=name) for metric in (kernel_distance, frechet_distance)]
        pairs = zip(prdc(sides[0], sides[1], extractor=name), prdc(sides[0], sides[2], extractor=name), strict=True)
        results += [replace(found, floor=other.value) for found, other in pairs]
    results.append(_beside(spectrum_distance, *(s.arrays["spectrum"] for s in (reference, drawn, floor))))
    note = (
        f"{len(drawn)} synthetic pictures and as many real ones (the floor), each against {len(reference)} radiographs "
        "of other real patients. A distance at its floor means that this network cannot tell the sets apart."
    )
    return Section("Do they look like real ones?", note, results)


def alignment(
    real: PictureSet, synthetic: PictureSet, judge: str, encoders: list[DualEncoder] | None = None, seed: int = 0
) -> Section:  # fmt: skip
    """AUROC of the judge's scores for the findings that labels or reports state; the floor is that of real pictures.

    Encoders of images and texts say besides how well pictures fit their reports, or labels in the words of captions.
    """
    results = []
    known, asked = _truth(real.records), _truth(synthetic.records)
    for name in [t for t in asked if t in synthetic.scores]:
        made, found = _auroc(asked[name], synthetic.scores[name]), _auroc(known[name], real.scores[name])
        if made is not None:
            floor = None if found is None else found.value
            results.append(replace(made, name=f"AUROC {name}", extractor=judge, floor=floor))
    for encoder in encoders or ():
        floors = {found.name: found.value for found in _image_text(real, encoder, seed)}
        results += [replace(f, floor=floors.get(f.name)) for f in _image_text(synthetic, encoder, seed)]
    note = (
        "Does a classifier that was trained on real pictures find what labels or reports say? The floor is what it "
        "reaches on the real pictures. Much more than that is no better: such findings are too plain. An encoder of "
        "images and texts says how alike both are, and how often a picture fits its own text better than another's."
    )
    return Section("Do they show what was asked for?", note, results)


def masks(real: PictureSet, synthetic: PictureSet, seed: int) -> Section:
    """Whether masks fit their pictures, by a segmenter, and are shaped as real ones are."""
    title = "Do the masks fit?"
    sides = [s.rows(~np.isnan(s.arrays["mask Dice"])) if "mask Dice" in s.arrays else None for s in (real, synthetic)]
    if any(side is None or len(side) < FEWEST for side in sides):
        return Section(title, "", [])
    results = []
    for name in OVERLAPS:
        of_real, of_made = (side.arrays[f"mask {name}"].astype(float) for side in sides)
        direction = "higher" if name in ("Dice", "IoU") else "lower"
        found = mean_result(f"{name} to the segmenter's mask", of_made, direction, seed)
        results.append(replace(found, floor=float(of_real.mean()), details={}))
    counted = ([side.arrays[f"mask {name}"] for name in ("both", "either")] for side in sides)
    of_real, of_made = (pooled(*counts, seed=seed) for counts in counted)
    for found, floor in zip(of_made, of_real, strict=True):
        results.append(replace(found, name=f"{found.name}, to the segmenter's", floor=floor.value))
    reference, drawn, floor = ({name: s.arrays[f"mask {name}"] for name in MEASURES} for s in _thirds(*sides, seed))
    distances = zip(shape_distances(reference, drawn), shape_distances(reference, floor), strict=True)
    results += [replace(found, floor=other.value) for found, other in distances]
    note = (
        "What a segmenter that was trained on real pictures finds in them, beside their masks; the floor is that of "
        "real masks. Distances of shape are Wasserstein distances over the real masks' standard deviation."
    )
    return Section(title, note, results)


def by_subgroup(real: PictureSet, synthetic: PictureSet, extractors: list[str], config: EvaluateConfig) -> Section:
    """Distances and coverage within each age group, sex, view, hospital and finding; of all but findings the rest."""
    results = []
    for group, sides in _groups(real, synthetic):
        found = []
        for name in extractors:
            features = [side.features(name) for side in sides]
            found += [kernel_distance(*features, extractor=name), *prdc(*features, extractor=name)]
        if not group.startswith("finding"):
            found += alignment(*sides, config.judge).results + masks(*sides, config.seed).results
        results += [replace(one, name=f"{one.name}, {group}") for one in found]
    note = f"Within a group, equally many pictures of both sides; groups of fewer than {FEWEST} on a side are left out."
    return Section("For whom?", note, results)


def _groups(real: PictureSet, synthetic: PictureSet) -> Iterator[tuple[str, tuple[PictureSet, PictureSet]]]:
    """Each subgroup with at least `FEWEST` pictures on either side, and equally many of both, drawn at random."""
    rng = np.random.default_rng(0)
    rows = [[subgroups(r) for r in s.records] for s in (real, synthetic)]
    for group in sorted({group for side in rows for row in side for group in row}):
        inside = [np.flatnonzero([group in row for row in side]) for side in rows]
        n = min(map(len, inside))
        if n >= FEWEST:
            yield (
                group,
                tuple(s.rows(np.sort(rng.permutation(i)[:n])) for s, i in zip((real, synthetic), inside, strict=True)),
            )


def _image_text(pictures: PictureSet, encoder: DualEncoder, seed: int) -> list[MetricResult]:
    """How well pictures fit what their reports or labels say; nothing where too few have any."""
    said = [i for i, r in enumerate(pictures.records) if r.report or r.labels]
    if len(said) < FEWEST // 2:
        return []
    domain = load_domain(DEFAULT)
    texts = encoder.texts([text_of(pictures.records[i], domain) for i in said])
    return image_text_scores(pictures.features(encoder.name)[said], texts, extractor=encoder.name, seed=seed)


def privacy(
    train: PictureSet, real: PictureSet, synthetic: PictureSet, extractors: list[Extractor], seed: int
) -> Section:
    """Copies of training pictures, with what the check would have found, and whether membership can be inferred."""
    rng = np.random.default_rng(seed)
    chosen = [train.records[i] for i in sorted(rng.permutation(len(train))[:PLANTED])]
    altered = planted(chosen, extractors, seed)
    groups = {"train_groups": train.patients, "holdout_groups": real.patients}
    results = []
    for name in [e.name for e in extractors]:
        sides = [s.features(name) for s in (train, real, synthetic)]
        check = CopyCheck(sides[0], sides[1], extractor=name, **groups)
        share = check.share(sides[2], {kind: found[name] for kind, found in altered.items()})
        results.append(replace(share, floor=share.details["chance"]))
        results += [
            replace(check.share(side.features(name)), name=f"share of copies, {group}", floor=share.details["chance"])
            for group, (_, side) in _groups(real, synthetic)
            if not group.startswith("finding")
        ]
        results += [
            MetricResult(f"planted copies found, {kind}", found, found, found, len(chosen), "higher", extractor=name)
            for kind, found in share.details["found"].items()
        ]
        results.append(replace(membership_inference(*sides, extractor=name, seed=seed), floor=0.5))
    note = (
        "A copy is a picture nearer to a training picture than 95 % of real patients outside the training set are: 5 % "
        "are expected by chance. Planted copies say how many the check would have found. The classifier of findings "
        "does not judge here: it finds the pictures that it was trained on in everything."
    )
    return Section("Were patients copied?", note, results)


def _shown(sets: dict[str, PictureSet], sections: list[Section]) -> dict[str, list[Record]]:
    """Pictures for the page: some of each set, and the pairs most like copies."""
    shown = {name: of.records[:: -(-len(of) // SHOWN)] for name, of in sets.items() if name != "train"}
    copies = next((r for s in sections for r in s.results if r.name == "share of copies"), None)
    if copies is not None:
        order = np.argsort(copies.details["scores"])[::-1][:SHOWN]
        shown["most like a training picture"] = [sets["synthetic"].records[i] for i in order]
        shown["its nearest training picture"] = [sets["train"].records[copies.details["nearest"][i]] for i in order]
    return shown


def _thirds(real: PictureSet, synthetic: PictureSet, seed: int) -> list[PictureSet]:
    """Equally many: real pictures to compare with, synthetic ones, and real ones of other patients.

    Raises:
        EvaluationError: too few for any of them.
    """
    rng = np.random.default_rng(seed)
    people = np.unique(real.patients)
    inside = np.isin(real.patients, rng.permutation(people)[: len(people) // 2])
    sets = [real.rows(inside), synthetic, real.rows(~inside)]
    n = min(map(len, sets))
    if n < FEWEST // 2:
        raise EvaluationError(
            f"{len(real)} real pictures of {len(people)} patients and {len(synthetic)} synthetic ones are too few; "
            f"give at least {FEWEST} real and {FEWEST // 2} synthetic"
        )
    return [s.rows(np.sort(rng.permutation(len(s))[:n])) for s in sets]


def _truth(records: list[Record]) -> dict[str, np.ndarray]:
    """1, 0 or NaN by finding."""
    domain = load_domain(DEFAULT)
    rows = np.array([stated_values(r, domain) for r in records])
    return dict(zip(domain.targets, rows.T, strict=True))


def _auroc(truth: np.ndarray, scores: np.ndarray) -> MetricResult | None:
    known = ~np.isnan(truth)
    fewer = min(truth[known].sum(), (1 - truth[known]).sum())
    return auroc(truth[known].astype(int), scores[known]) if fewer >= FEWEST // 2 else None


def _beside(metric: Any, reference: np.ndarray, drawn: np.ndarray, floor: np.ndarray, **named: str) -> MetricResult:
    """A metric of synthetic pictures with that of real ones for its floor."""
    return replace(metric(reference, drawn, **named), floor=metric(reference, floor, **named).value)


def _stored(result: MetricResult) -> dict[str, Any]:
    return {k: v for k, v in result.to_dict().items() if k != "details"}
