"""The study: does synthetic data help on these cases? Segmenters of real, synthetic and mixed cases, with controls.

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

from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.datasets import Record, masked
from skiagraph.data.images import read_picture
from skiagraph.data.picture_sets import read_set
from skiagraph.devices import AUTO
from skiagraph.engine.job import Done, Outcome, Run, open_run, plain
from skiagraph.engine.pairs import PairsConfig, make_pairs
from skiagraph.engine.study_answers import answers, write_study
from skiagraph.errors import DataError
from skiagraph.files import atomic_path, remove
from skiagraph.models.registry import load_component
from skiagraph.progress import Listener, progress, silent
from skiagraph.training.images import load_images
from skiagraph.training.loop import train
from skiagraph.training.recipe import DataConfig, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.segmenter import Pairs, SegmenterTask, label_maps, read_masks

STRONGER = 1.5
"""Ranges of augmentation of the control that has more of it, over the usual ones."""

AUGMENTED, SELF_LABELLED = "augmented more", "self-labelled"
"""Controls: what one may do without any synthetic case."""

VALIDATION, TEST = "validation", "test"
TIMED = 6
"""Training steps that a plan measures."""

LEARNING_RATE, BATCH = 2e-3, 16


@dataclass(frozen=True)
class StudyConfig:
    """What is asked. `data` is a data set with masks as `skiagraph.data.picture_sets.read_set` reads it.

    `synthetic` are data sets by name, such as `skiagraph pairs` and `augment` write; without any, `pairs` images of the
    training patients' reports or labels are made first. `tests` are other hospitals' data sets by name. `shares` of a
    batch are synthetic; 0 puts all cases together. Segmenters look at `size` pixels and are trained for `steps`.
    """

    data: str
    classes: tuple[str, ...] = ("lung",)
    real: tuple[int, ...] = (10, 50, 200)
    synthetic: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, str] = field(default_factory=dict)
    pairs: int = 300
    shares: tuple[float, ...] = (0.0, 0.25, 0.5)
    seeds: int = 3
    steps: int = 500
    size: int = 128
    device: str = AUTO


@dataclass(frozen=True)
class Arm:
    """One way of training: so many `real` cases, a synthetic set `made` with its `share` of a batch, or a `control`."""

    real: int
    made: str = ""
    share: float = 0.0
    control: str = ""

    @property
    def name(self) -> str:
        """As tables call it."""
        if not self.real:
            return f"{self.made} alone"
        share = f", {self.share:g} of a batch" if self.share else ""
        return f"real {self.real}" + "".join(f" + {extra}{share}" for extra in (self.made, self.control) if extra)


@dataclass(frozen=True)
class Cases:
    """Images and masks, uint8 (n, ...), and the patient of each."""

    pairs: Pairs
    patients: np.ndarray


def study(config: StudyConfig, output: Path, *, overwrite: bool = False, listen: Listener = progress) -> dict[str, Any]:
    """Train what is missing, and write `results.json` and the self-contained `report.html`.

    Args:
        config: what is asked.
        output: folder of the report, the made pairs and a file of scores for each training.
        overwrite: remove what another study left in `output`.
        listen: hears of progress.

    Returns:
        The manifest: `answers`, a sentence each with its numbers, and `seconds`, what a training cost by arm.

    Raises:
        DataError: a data set without masks of the classes, or with fewer training cases than asked for.
        SkiagraphError: `output` holds another run.
    """
    sets = Sets(config)
    with open_run(
        output, "study", plain(config, "device"), overwrite=overwrite, extend=("real", "seeds"), listen=listen
    ) as run:
        run.claim("pairs", "training", "results.json", "report.html")
        made = sets.synthetic(output, listen)
        trained = _train_all(config, sets, made, run)
        scores, seconds = _collected(config, trained, output)
        found = answers(list(arms(config, made)), scores, sets.patients, VALIDATION)
        write_study(output, config.data, found, scores, sets.patients, seconds)
        return run.finish(answers=[answer.to_dict() for answer in found], seconds=seconds)


def plan(config: StudyConfig) -> dict[str, Any]:
    """How many trainings a study takes and about how long, by some steps on this machine; nothing is kept.

    Returns:
        `arms`, their names; `trainings`, arms times seeds; and `minutes` of all of them, without those of making pairs.
    """
    sets = Sets(config)
    named = config.synthetic or {"pairs": ""}
    listed = [arm.name for arm in arms(config, named)]
    drawn = sets.drawn(min(config.real))
    began = time.perf_counter()
    task = SegmenterTask(segmenter_recipe(config, sets.channels, seed=0), drawn, drawn)
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
        self.config = config
        records = read_set(config.data)
        self.records = {split: masked([r for r in records if r.split == split]) for split in ("train", "val", "test")}
        lacking = [split for split, found in self.records.items() if not found]
        if lacking:
            raise DataError(f"{config.data} has no case with a mask in {', '.join(lacking)}; a study needs all three")
        if len(self.records["train"]) < max(config.real):
            raise DataError(
                f"{config.data} has {len(self.records['train'])} training cases with a mask; --real asks for "
                f"{max(config.real)}"
            )
        self.channels = 3 if read_picture(self.records["train"][0].path).ndim == 3 else 1

    @cached_property
    def train(self) -> Pairs:
        """Training cases in an order drawn by patient, so that each number of real cases contains the smaller ones."""
        return self._cases(_by_patient(self.records["train"])).pairs

    @cached_property
    def held_out(self) -> dict[str, Cases]:
        """Validation and test cases, and other hospitals' by name."""
        others = {name: masked(read_set(folder)) for name, folder in self.config.tests.items()}
        listed = {VALIDATION: self.records["val"], TEST: self.records["test"], **others}
        return {name: self._cases(records) for name, records in listed.items()}

    @cached_property
    def patients(self) -> dict[str, np.ndarray]:
        """The patient of each held-out case, by set."""
        return {name: cases.patients for name, cases in self.held_out.items()}

    def drawn(self, count: int) -> Pairs:
        """The first `count` training cases."""
        return tuple(part[:count] for part in self.train)

    def unlabelled(self, count: int, most: int) -> torch.Tensor:
        """At most `most` training images that are not among the first `count`; their masks are not looked at."""
        return self.train[0][count : count + most]

    def synthetic(self, output: Path, listen: Listener) -> dict[str, Pairs]:
        """Synthetic cases by name; made from the training patients' reports or labels where none are given."""
        given = dict(self.config.synthetic)
        if not given:
            prompts = tuple(r.report or record_prompt(r) for r in self.records["train"])
            folder = output / "pairs"
            pairs = PairsConfig(prompts, self.config.pairs, self.config.classes, device=self.config.device)
            make_pairs(pairs, folder, listen=listen)
            given = {"pairs": str(folder)}
        return {name: self._cases(masked(read_set(folder))).pairs for name, folder in given.items()}

    def _cases(self, records: Sequence[Record]) -> Cases:
        recipe = segmenter_recipe(self.config, self.channels, seed=0)
        kept, masks = read_masks(list(records), recipe)
        images = load_images(kept, recipe.data.image_size, recipe.data.fit, self.channels)
        return Cases((images, masks), np.array([r.patient for r in kept]))


def segmenter_recipe(
    config: StudyConfig, channels: int, seed: int, *, augmentation: float = 1.0, share: float = 0.0, ratio: float = 1.0
) -> SegmenterRecipe:
    """How one segmenter is trained; with a `share`, cases of the source "made", `ratio` times the real ones, weigh so
    much that they are that share of a batch."""
    weights = {"made": share / (1 - share) / ratio} if share else {}
    optim = OptimConfig(
        steps=config.steps, batch_size=BATCH, learning_rate=LEARNING_RATE, weight_decay=0.01, ema_decay=0.99,
        precision="no", validate_every=0, warmup_steps=50, tensorboard=False,
    )  # fmt: skip
    return SegmenterRecipe(
        task="segmenter", seed=seed, data=DataConfig(datasets=[config.data], image_size=config.size, fit="pad"),
        optim=optim, classes=list(config.classes), in_channels=channels, augmentation=augmentation, sampling=weights,
        mirror=channels == 3,
    )  # fmt: skip


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
    """One training, and the Dice of every held-out case."""
    began = time.perf_counter()
    stem = re.sub(r"[^\w.]+", "-", f"{arm.name} seed {seed}")
    folder = output / "training" / stem
    model = _trained(config, sets, arm, seed, made, folder)
    scores = {name: dice_by_case(model, cases.pairs) for name, cases in sets.held_out.items()}
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
        labels = label_maps(teacher, images).to(torch.uint8)[:, None] if len(images) else real[1][:0]
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
    """A segmenter after its last step on the pairs; a training that was cut off goes on."""
    extra = more if more is not None else tuple(part[:0] for part in real)
    sources = ["real"] * len(real[0]) + ["made"] * len(extra[0])
    recipe = segmenter_recipe(
        config, sets.channels, seed, augmentation=augmentation, share=share, ratio=len(extra[0]) / len(real[0])
    )
    torch.manual_seed(seed)
    pairs = tuple(torch.cat(parts) for parts in zip(real, extra, strict=True))
    few = tuple(part[:2] for part in real)
    task = SegmenterTask(recipe, pairs, few, sources)
    return load_component(train(recipe, task, folder, device=config.device, listen=silent)).float().eval()


def dice_by_case(model: torch.nn.Module, pairs: Pairs) -> np.ndarray:
    """Dice (n,) of each case, the mean of its classes; 1 where a class is in neither mask."""
    found, drawn = label_maps(model, pairs[0]), pairs[1][:, 0]
    values = []
    for label in range(1, len(model.config.classes)):
        a, b = found == label, drawn == label
        total = (a.sum(dim=(1, 2)) + b.sum(dim=(1, 2))).numpy()
        values.append(np.where(total, 2 * (a & b).sum(dim=(1, 2)).numpy() / np.maximum(total, 1), 1.0))
    return np.mean(values, axis=0)


def _collected(
    config: StudyConfig, trained: Outcome, output: Path
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """Dice (seeds, n) by arm and held-out set, and the mean seconds of a training by arm."""
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
