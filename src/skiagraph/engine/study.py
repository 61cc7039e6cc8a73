"""The study: does synthetic data help on these cases? Networks of real, synthetic and mixed cases, with controls.

Every training is an item of the runner, so that a study goes on where it was stopped. Shares of synthetic cases are
chosen on validation patients; test patients and other hospitals are looked at once, for the answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skiagraph.data.datasets import Record
from skiagraph.data.images import read_picture
from skiagraph.devices import AUTO
from skiagraph.domains.domain import DEFAULT, load_domain
from skiagraph.engine.job import Done, Outcome, Run, open_run, plain
from skiagraph.engine.picture_sets import read_set, text_of
from skiagraph.engine.study_answers import Arm, Judged, answers, write_study
from skiagraph.engine.study_making import MAKERS, Request, seconds_each
from skiagraph.engine.study_tasks import BATCH, TASKS, Cases, Pairs, StudyTask
from skiagraph.errors import DataError
from skiagraph.files import atomic_path, remove
from skiagraph.models.registry import DEFAULT_MODEL, load_component
from skiagraph.progress import Listener, progress, silent
from skiagraph.training.loop import train

STRONGER = 1.5
"""Ranges of augmentation of the control that has more of it, over the usual ones."""

AUGMENTED, SELF_LABELLED = "augmented more", "self-labelled"
"""Controls: what one may do without any synthetic case."""

VALIDATION, TEST = "validation", "test"
REAL, SYNTHETIC = "real", "synthetic"
"""Sources of training cases."""

TIMED = 6
"""Training steps that a plan measures."""


@dataclass(frozen=True)
class StudyConfig:
    """What is asked. `data` is a data set with masks or labels as `skiagraph.engine.picture_sets.read_set` reads it.

    `task` is "segment" or "classify"; `classes` are those of the masks, by default "lung", or findings, by default all.
    `synthetic` are data sets by name, such as `skiagraph pairs`, `augment` and `generate` write; without any, `make`
    images are made first in each of the `ways`, keys of `MAKERS[task]`, by default all, by `model` in `dtype`, of
    `prompts` or else of the training patients' reports or labels. A case made from a real one trains only beside that.
    `tests` are other hospitals' data sets by name. `shares` of a batch are synthetic; 0 puts all cases together.
    Networks look at `size` pixels and are trained for `steps`.
    """

    data: str
    task: str = "segment"
    classes: tuple[str, ...] = ()
    real: tuple[int, ...] = (10, 50, 200)
    synthetic: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, str] = field(default_factory=dict)
    make: int = 300
    ways: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    model: str = DEFAULT_MODEL
    dtype: str = "float32"
    shares: tuple[float, ...] = (0.0, 0.25, 0.5)
    seeds: int = 3
    steps: int = 500
    size: int = 128
    device: str = AUTO


def study(config: StudyConfig, output: Path, *, overwrite: bool = False, listen: Listener = progress) -> dict[str, Any]:
    """Train what is missing, and write `results.json` and the self-contained `report.html`.

    Args:
        config: what is asked.
        output: folder of the report, the images made for it and a file of scores for each training.
        overwrite: remove what another study left in `output`.
        listen: hears of progress.

    Returns:
        The manifest: `answers`, a sentence each with its numbers, and `cost` by arm: the `seconds` of a training, and
        how many cases are `real` and `synthetic`.

    Raises:
        DataError: a data set without masks or labels, or with fewer training cases than asked for; a way of making that
            the task or the model does not know; or a synthetic set that an arm may take no case of.
        SkiagraphError: `output` holds another run.
    """
    sets = Sets(config)
    held_out = sets.held_out
    extend = ("real", "seeds") if config.synthetic else ("seeds",)
    with open_run(output, "study", plain(config, "device"), overwrite=overwrite, extend=extend, listen=listen) as run:
        run.claim(*MAKERS[config.task], "own", "training", "results.json", "report.html")
        made = sets.synthetic(output, listen)
        trained = _train_all(config, sets, made, run)
        scores = read_scores(trained, output)
        judged = Judged(sets.task, held_out, scores)
        found = answers(list(arms(config, made)), judged, VALIDATION)
        cost = _costs(trained)
        write_study(output, config.data, found, judged, cost)
        return run.finish(answers=[answer.to_dict() for answer in found], cost=cost)


def plan(config: StudyConfig) -> dict[str, Any]:
    """How many trainings a study takes and about how long, by some steps on this machine; nothing is kept.

    Returns:
        `arms`, their names; `trainings`, arms times seeds; `minutes` of all of them; and `making`, minutes by set that
        images take which are made first.
    """
    sets = Sets(config)
    named = config.synthetic or dict.fromkeys(sets.ways, "")
    listed = [arm.name for arm in arms(config, named)]
    drawn = sets.drawn(min(config.real))
    began = time.perf_counter()
    task = sets.task.training(drawn, [REAL] * len(drawn[0]), 0, 1.0, {})
    generator = torch.Generator().manual_seed(0)
    for _ in range(TIMED):
        task.loss(task.model, BATCH, generator)[0].backward()
    minutes = (time.perf_counter() - began) / TIMED * config.steps * len(listed) * config.seeds / 60
    making = {} if config.synthetic else {name: seconds_each(m, sets.request) for name, m in sets.ways.items()}
    return {
        "arms": listed, "trainings": len(listed) * config.seeds, "minutes": round(minutes, 3),
        "making": {name: round(seconds * config.make / 60, 3) for name, seconds in making.items()},
    }  # fmt: skip


def arms(config: StudyConfig, synthetic: Mapping[str, Any]) -> Iterator[Arm]:
    """All ways of training: each number of real cases alone, with each control and with each synthetic set."""
    for count in config.real:
        yield Arm(count)
        yield from (Arm(count, control=control) for control in (AUGMENTED, SELF_LABELLED))
        yield from (Arm(count, made, share) for made in synthetic for share in config.shares)
    yield from (Arm(0, made) for made in synthetic)


class Sets:
    """The study's cases, read once: real ones by split, other hospitals', synthetic ones."""

    def __init__(self, config: StudyConfig) -> None:
        self.config, self.domain = config, load_domain(DEFAULT)
        if config.task not in TASKS:
            raise DataError(f"no task {config.task!r}; a study trains to {' or '.join(TASKS)}")
        records = read_set(config.data, self.domain)
        channels = 3 if read_picture(records[0].path).ndim == 3 else 1
        self.task: StudyTask = TASKS[config.task](config, channels)
        self.records = {
            split: self.task.usable([r for r in records if r.split == split]) for split in ("train", "val", "test")
        }
        lacking = [split for split, found in self.records.items() if not found]
        if lacking:
            raise DataError(
                f"{config.data} has no case with {self.task.needs} in {', '.join(lacking)}; a study needs all three"
            )
        if len(self.records["train"]) < max(config.real):
            raise DataError(
                f"{config.data} has {len(self.records['train'])} training cases with {self.task.needs}; "
                f"--real asks for {max(config.real)}"
            )

        known = MAKERS[config.task]
        if unknown := [way for way in config.ways if way not in known]:
            raise DataError(f"no way {unknown[0]!r} of making cases to {config.task}; choose among {', '.join(known)}")
        self.ways = {way: known[way] for way in config.ways or known}
        if not config.synthetic:
            self.request.check(channels)

    @cached_property
    def train(self) -> Cases:
        """Training cases in an order drawn by patient, so that each number of real cases contains the smaller ones."""
        return self.task.cases(by_patient(self.records["train"]))

    @cached_property
    def request(self) -> Request:
        """What is to be made: of the training patients' texts, and of the cases that arms take."""
        config, records = self.config, by_patient(self.records["train"])
        prompts = config.prompts or tuple(text_of(record, self.domain) for record in records)
        own = self.train.records[: max(config.real)]
        return Request(prompts, own, config.make, self.task.classes, config.model, config.dtype, config.device)

    @cached_property
    def held_out(self) -> dict[str, Cases]:
        """Validation and test cases, and other hospitals' by name."""
        others = {name: self.task.usable(read_set(folder, self.domain)) for name, folder in self.config.tests.items()}
        empty = [name for name, records in others.items() if not records]
        if empty:
            raise DataError(f"--test {empty[0]} has no case with {self.task.needs}")
        listed = {VALIDATION: self.records["val"], TEST: self.records["test"], **others}
        found = {name: self.task.cases(records) for name, records in listed.items()}
        for name, cases in found.items():
            self.task.check(name, cases)
        return found

    def drawn(self, count: int) -> Pairs:
        """The first `count` training cases."""
        return tuple(part[:count] for part in self.train.pairs)

    def unlabelled(self, count: int, most: int) -> torch.Tensor:
        """At most `most` training images that are not among the first `count`; their masks or labels are not read."""
        return self.train.pairs[0][count : count + most]

    def synthetic(self, output: Path, listen: Listener) -> dict[str, Cases]:
        """Synthetic cases by name; made where none are given."""
        given = dict(self.config.synthetic)
        if not given:
            given = {way: str(output / way) for way in self.ways}
            for way, maker in self.ways.items():
                maker(self.request, output / way, listen)
        sets = {name: self.task.usable(read_set(folder, self.domain)) for name, folder in given.items()}
        for name, records in sets.items():
            if not records:
                raise DataError(f"--synthetic {name}: no case with {self.task.needs} in {given[name]}")
        found = {name: self.task.cases(records) for name, records in sets.items()}
        for name, cases in found.items():
            self.beside(cases, min(self.config.real), name)
        return found

    def beside(self, made: Cases, count: int, name: str) -> Pairs:
        """Synthetic cases that may train beside the first `count` real ones: none that was made from another.

        Raises:
            DataError: all were made from others.
        """
        others = {record.key for record in self.train.records[count:]}
        allowed = [i for i, record in enumerate(made.records) if record.source not in others]
        if not allowed:
            raise DataError(
                f"all cases of {name} were made from real cases that are not among the first {count}; a study can "
                f"make them from its own (leave --synthetic out), or ask for more with --real"
            )
        return tuple(part[allowed] for part in made.pairs)


def by_patient(records: Sequence[Record]) -> list[Record]:
    """One case of each patient before any has two, in an order drawn once."""
    rng = np.random.default_rng(0)
    shuffled = [records[i] for i in rng.permutation(len(records))]
    seen: dict[str, int] = {}
    turns = []
    for record in shuffled:
        turns.append(seen.get(record.patient, 0))
        seen[record.patient] = turns[-1] + 1
    return [shuffled[i] for i in np.argsort(turns, kind="stable")]


def _train_all(config: StudyConfig, sets: Sets, made: Mapping[str, Cases], run: Run) -> Outcome:
    items = {f"{arm.name}, seed {seed}": (arm, seed) for arm in arms(config, made) for seed in range(config.seeds)}

    def work(some: Sequence[tuple[Arm, int]]) -> Iterator[Done]:
        for arm, seed in some:
            yield _cell(config, sets, made, arm, seed, run.output)

    return run.each("training", items, work)


def _cell(config: StudyConfig, sets: Sets, made: Mapping[str, Cases], arm: Arm, seed: int, output: Path) -> Done:
    """One training, and its scores of every held-out case."""
    began = time.perf_counter()
    stem = re.sub(r"[^\w.]+", "-", f"{arm.name} seed {seed}")
    folder = output / "training" / stem
    more = sets.beside(made[arm.made], arm.real or max(config.real), arm.made) if arm.made else None
    model = _trained(config, sets, arm, seed, made, more, folder)
    file = f"scores/{stem}.npz"
    write_scores(output / file, sets.task, model, sets.held_out)
    remove(folder)
    numbers = {"real": arm.real, "synthetic": len(more[0]) if more else 0}
    seconds = round(time.perf_counter() - began, 1)
    return Done({"arm": arm.name, "seed": seed, **numbers, "seconds": seconds}, files=(file,))


def _trained(
    config: StudyConfig, sets: Sets, arm: Arm, seed: int, made: Mapping[str, Cases], more: Pairs | None, folder: Path
) -> torch.nn.Module:
    real = sets.drawn(arm.real)
    if arm.control == SELF_LABELLED:
        teacher = fit(config, sets.task, seed, folder / "teacher", real)
        images = sets.unlabelled(arm.real, max(len(cases.records) for cases in made.values()))
        labels = sets.task.labelled(teacher, images) if len(images) else real[1][:0]
        return fit(config, sets.task, seed, folder, real, (images, labels), share=0.5 if len(images) else 0.0)
    if not arm.real:
        return fit(config, sets.task, seed, folder, more)
    augmentation = STRONGER if arm.control == AUGMENTED else 1.0
    return fit(config, sets.task, seed, folder, real, more, share=arm.share, augmentation=augmentation)


def fit(
    config: StudyConfig, trained: StudyTask, seed: int, folder: Path, real: Pairs, more: Pairs | None = None, *,
    share: float = 0.0, augmentation: float = 1.0,
) -> torch.nn.Module:  # fmt: skip
    """A network after its last step on the pairs; a training that was cut off goes on."""
    extra = more if more is not None else tuple(part[:0] for part in real)
    sources = [REAL] * len(real[0]) + [SYNTHETIC] * len(extra[0])
    pairs = tuple(torch.cat(parts) for parts in zip(real, extra, strict=True))
    torch.manual_seed(seed)
    weights = synthetic_weight(share, len(extra[0]) / len(real[0]))
    task = trained.training(pairs, sources, seed, augmentation, weights)
    return load_component(train(task.recipe, task, folder, device=config.device, listen=silent)).float().eval()


def synthetic_weight(share: float, ratio: float) -> dict[str, float]:
    """Weight of a synthetic case, `ratio` to each real one, so that together they make up `share` of a batch."""
    return {SYNTHETIC: share / (1 - share) / ratio} if share else {}


def write_scores(path: Path, task: StudyTask, model: torch.nn.Module, held_out: Mapping[str, Cases]) -> None:
    """Keep what a model says of each held-out set's cases."""
    scores = {name: task.scores(model, cases) for name, cases in held_out.items()}
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **scores)


def read_scores(trained: Outcome, output: Path) -> dict[str, dict[str, np.ndarray]]:
    """Scores (seeds, n, ...) by arm and held-out set, of trainings whose first file `write_scores` wrote."""
    scores: dict[str, dict[str, list[np.ndarray]]] = {}
    for kept in trained.kept.values():
        stored = np.load(output / next(iter(kept.files)))
        of_arm = scores.setdefault(kept.row["arm"], {name: [] for name in stored.files})
        for name in stored.files:
            of_arm[name].append(stored[name])
    return {arm: {name: np.stack(rows) for name, rows in sets.items()} for arm, sets in scores.items()}


def _costs(trained: Outcome) -> dict[str, dict[str, float]]:
    """By arm, the mean seconds of a training, and its numbers of real and synthetic cases."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for kept in trained.kept.values():
        rows.setdefault(kept.row["arm"], []).append(kept.row)
    return {
        arm: {
            "seconds": round(float(np.mean([row["seconds"] for row in of_arm])), 1),
            "real": of_arm[0]["real"],
            "synthetic": of_arm[0]["synthetic"],
        }
        for arm, of_arm in rows.items()
    }
