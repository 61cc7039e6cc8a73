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
from skiagraph.engine.picture_sets import read_set
from skiagraph.engine.study_answers import Arm, Judged, answers, write_study
from skiagraph.engine.study_tasks import BATCH, TASKS, Cases, Pairs, StudyTask
from skiagraph.errors import DataError
from skiagraph.files import atomic_path, remove
from skiagraph.models.registry import load_component
from skiagraph.progress import Listener, progress, silent
from skiagraph.training.loop import train

STRONGER = 1.5
"""Ranges of augmentation of the control that has more of it, over the usual ones."""

AUGMENTED, SELF_LABELLED = "augmented more", "self-labelled"
"""Controls: what one may do without any synthetic case."""

VALIDATION, TEST = "validation", "test"
REAL, MADE = "real", "made"
"""Sources of training cases; `MADE` is also what a study's own images are called."""

TIMED = 6
"""Training steps that a plan measures."""


@dataclass(frozen=True)
class StudyConfig:
    """What is asked. `data` is a data set with masks or labels as `skiagraph.engine.picture_sets.read_set` reads it.

    `task` is "segment" or "classify"; `classes` are those of the masks, by default "lung", or findings, by default all.
    `synthetic` are data sets by name, such as `skiagraph pairs`, `augment` and `generate` write; without any, `make`
    images of the training patients' reports or labels are made first. `tests` are other hospitals' data sets by name.
    `shares` of a batch are synthetic; 0 puts all cases together. Networks look at `size` pixels and are trained for
    `steps`.
    """

    data: str
    task: str = "segment"
    classes: tuple[str, ...] = ()
    real: tuple[int, ...] = (10, 50, 200)
    synthetic: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, str] = field(default_factory=dict)
    make: int = 300
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
        The manifest: `answers`, a sentence each with its numbers, and `seconds`, what a training cost by arm.

    Raises:
        DataError: a data set without masks or labels, or with fewer training cases than asked for.
        SkiagraphError: `output` holds another run.
    """
    sets = Sets(config)
    held_out = sets.held_out
    with open_run(
        output, "study", plain(config, "device"), overwrite=overwrite, extend=("real", "seeds"), listen=listen
    ) as run:
        run.claim("made", "training", "results.json", "report.html")
        made = sets.synthetic(output, listen)
        trained = _train_all(config, sets, made, run)
        scores, seconds = _collected(config, trained, output)
        judged = Judged(sets.task, held_out, scores)
        found = answers(list(arms(config, made)), judged, VALIDATION)
        write_study(output, config.data, found, judged, seconds)
        return run.finish(answers=[answer.to_dict() for answer in found], seconds=seconds)


def plan(config: StudyConfig) -> dict[str, Any]:
    """How many trainings a study takes and about how long, by some steps on this machine; nothing is kept.

    Returns:
        `arms`, their names; `trainings`, arms times seeds; and `minutes` of all of them, without the making of images.
    """
    sets = Sets(config)
    named = config.synthetic or {MADE: ""}
    listed = [arm.name for arm in arms(config, named)]
    drawn = sets.drawn(min(config.real))
    began = time.perf_counter()
    task = sets.task.training(drawn, [REAL] * len(drawn[0]), 0, 1.0, {})
    generator = torch.Generator().manual_seed(0)
    for _ in range(TIMED):
        task.loss(task.model, BATCH, generator)[0].backward()
    minutes = (time.perf_counter() - began) / TIMED * config.steps * len(listed) * config.seeds / 60
    return {"arms": listed, "trainings": len(listed) * config.seeds, "minutes": round(minutes, 1)}


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

    @cached_property
    def train(self) -> Pairs:
        """Training cases in an order drawn by patient, so that each number of real cases contains the smaller ones."""
        return self.task.cases(_by_patient(self.records["train"])).pairs

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
        return tuple(part[:count] for part in self.train)

    def unlabelled(self, count: int, most: int) -> torch.Tensor:
        """At most `most` training images that are not among the first `count`; their masks or labels are not read."""
        return self.train[0][count : count + most]

    def synthetic(self, output: Path, listen: Listener) -> dict[str, Pairs]:
        """Synthetic cases by name; made from the training patients' reports or labels where none are given."""
        given = dict(self.config.synthetic)
        if not given:
            prompts = tuple(r.report or self.domain.record_prompt(r) for r in _by_patient(self.records["train"]))
            folder = output / MADE
            self.task.make(prompts, folder, listen)
            given = {MADE: str(folder)}
        sets = {name: self.task.usable(read_set(folder, self.domain)) for name, folder in given.items()}
        for name, records in sets.items():
            if not records:
                raise DataError(f"--synthetic {name}: no case with {self.task.needs} in {given[name]}")
        return {name: self.task.cases(records).pairs for name, records in sets.items()}


def _by_patient(records: Sequence[Record]) -> list[Record]:
    """One case of each patient before any has two, in an order drawn once."""
    rng = np.random.default_rng(0)
    shuffled = [records[i] for i in rng.permutation(len(records))]
    seen: dict[str, int] = {}
    turns = []
    for record in shuffled:
        turns.append(seen.get(record.patient, 0))
        seen[record.patient] = turns[-1] + 1
    return [shuffled[i] for i in np.argsort(turns, kind="stable")]


def _train_all(config: StudyConfig, sets: Sets, made: Mapping[str, Pairs], run: Run) -> Outcome:
    items = {f"{arm.name}, seed {seed}": (arm, seed) for arm in arms(config, made) for seed in range(config.seeds)}

    def work(some: Sequence[tuple[Arm, int]]) -> Iterator[Done]:
        for arm, seed in some:
            yield _cell(config, sets, made, arm, seed, run.output)

    return run.each("training", items, work)


def _cell(config: StudyConfig, sets: Sets, made: Mapping[str, Pairs], arm: Arm, seed: int, output: Path) -> Done:
    """One training, and its scores of every held-out case."""
    began = time.perf_counter()
    stem = re.sub(r"[^\w.]+", "-", f"{arm.name} seed {seed}")
    folder = output / "training" / stem
    model = _trained(config, sets, arm, seed, made, folder)
    scores = {name: sets.task.scores(model, cases) for name, cases in sets.held_out.items()}
    file = f"scores/{stem}.npz"
    with atomic_path(output / file) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **scores)
    remove(folder)
    return Done({"arm": arm.name, "seed": seed, "seconds": round(time.perf_counter() - began, 1)}, files=(file,))


def _trained(
    config: StudyConfig, sets: Sets, arm: Arm, seed: int, made: Mapping[str, Pairs], folder: Path
) -> torch.nn.Module:
    real = sets.drawn(arm.real)
    if arm.control == SELF_LABELLED:
        teacher = _fit(config, sets, seed, folder / "teacher", real)
        images = sets.unlabelled(arm.real, max(len(pairs[0]) for pairs in made.values()))
        labels = sets.task.labelled(teacher, images) if len(images) else real[1][:0]
        return _fit(config, sets, seed, folder, real, (images, labels), share=0.5 if len(images) else 0.0)
    more = made[arm.made] if arm.made else None
    if not arm.real:
        return _fit(config, sets, seed, folder, more)
    augmentation = STRONGER if arm.control == AUGMENTED else 1.0
    return _fit(config, sets, seed, folder, real, more, share=arm.share, augmentation=augmentation)


def _fit(
    config: StudyConfig, sets: Sets, seed: int, folder: Path, real: Pairs, more: Pairs | None = None, *,
    share: float = 0.0, augmentation: float = 1.0,
) -> torch.nn.Module:  # fmt: skip
    """A network after its last step on the pairs; a training that was cut off goes on."""
    extra = more if more is not None else tuple(part[:0] for part in real)
    sources = [REAL] * len(real[0]) + [MADE] * len(extra[0])
    pairs = tuple(torch.cat(parts) for parts in zip(real, extra, strict=True))
    torch.manual_seed(seed)
    task = sets.task.training(pairs, sources, seed, augmentation, made_weight(share, len(extra[0]) / len(real[0])))
    return load_component(train(task.recipe, task, folder, device=config.device, listen=silent)).float().eval()


def made_weight(share: float, ratio: float) -> dict[str, float]:
    """Weight of a case of the source `MADE`, `ratio` to each real one, that together make up `share` of a batch."""
    return {MADE: share / (1 - share) / ratio} if share else {}


def _collected(
    config: StudyConfig, trained: Outcome, output: Path
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """Scores (seeds, n, ...) by arm and held-out set, and the mean seconds of a training by arm."""
    scores: dict[str, dict[str, list[np.ndarray]]] = {}
    seconds: dict[str, list[float]] = {}
    for kept in trained.kept.values():
        stored = np.load(output / next(iter(kept.files)))
        of_arm = scores.setdefault(kept.row["arm"], {name: [] for name in stored.files})
        for name in stored.files:
            of_arm[name].append(stored[name])
        seconds.setdefault(kept.row["arm"], []).append(kept.row["seconds"])
    stacked = {arm: {name: np.stack(rows) for name, rows in sets.items()} for arm, sets in scores.items()}
    return stacked, {arm: round(float(np.mean(times)), 1) for arm, times in seconds.items()}
