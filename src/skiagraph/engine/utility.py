"""Are synthetic pictures of use? Classifiers trained on them, on real ones and on both, and tested on real ones.

The downstream utility of CheXGenBench (arXiv 2505.10496), with small networks, seeds and intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skiagraph.data.datasets import Record
from skiagraph.engine.evaluation_page import Section
from skiagraph.engine.job import Done, Run
from skiagraph.engine.manifest import config_hash
from skiagraph.engine.study import StudyConfig, by_patient, fit, read_scores, write_scores
from skiagraph.engine.study_answers import Judged
from skiagraph.engine.study_tasks import Cases, Classifying, Pairs
from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult
from skiagraph.evaluation.statistics import grouped_statistic
from skiagraph.files import remove

FOLDER = "utility"
SEEDS = 3
TEST = "real"


@dataclass(frozen=True)
class _Training:
    """One training: its arm, the cases, further ones beside them, and the seed."""

    arm: str
    cases: Pairs
    more: Pairs | None
    seed: int


def utility(run: Run, records: Mapping[str, Sequence[Record]], config: StudyConfig) -> Section:
    """AUROC on real pictures of classifiers of equally many synthetic and real ones, and of both together.

    Args:
        run: keeps each training's scores.
        records: of "real", those tested on, "train" and "synthetic".
        config: `data` is what `train` is called; `steps`, `size` and `device` of the trainings.

    Raises:
        EvaluationError: no labels on a side.
        DataError: no finding that some real pictures have and others do not.
    """
    task = Classifying(config, 1)
    test, train, synthetic = (_cases(task, name, records[name]) for name in (TEST, "train", "synthetic"))
    task.check(f"--{TEST}", test)
    count = min(len(train.records), len(synthetic.records))
    real, made = (tuple(part[:count] for part in cases.pairs) for cases in (train, synthetic))
    names = (f"{count} real", f"{count} synthetic", f"{count} real and {count} synthetic")
    arms = dict(zip(names, ((real, None), (made, None), (real, made)), strict=True))
    content = config_hash({"of": [[r.key for r in cases.records] for cases in (test, train, synthetic)]})
    items = {
        f"{arm}, seed {seed}, {content}": _Training(arm, *cases, seed)
        for arm, cases in arms.items()
        for seed in range(SEEDS)
    }
    trained = run.each("training classifiers", items, _Worker(config, task, {TEST: test}, run.output))
    scores = read_scores(trained, run.output)
    note = (
        f"AUROC on {len(test.records)} real pictures of classifiers trained on {count} pictures of each kind, {SEEDS} "
        "seeds each, over patients and seeds together; the floor is that of real ones."
    )
    return Section("Are they of use?", note, _results(task, test, scores, names[0]))


def _cases(task: Classifying, name: str, records: Sequence[Record]) -> Cases:
    usable = task.usable(records)
    if not usable:
        raise EvaluationError(f"--{name} has no labels and no reports that state any; --utility needs them")
    return task.cases(by_patient(usable))


def _results(
    task: Classifying, test: Cases, scores: Mapping[str, Mapping[str, np.ndarray]], real: str
) -> list[MetricResult]:  # fmt: skip
    judged = Judged(task, {TEST: test}, scores)
    floor = judged.value(real, TEST)
    results = [replace(judged.result(arm, TEST), name=f"AUROC, trained on {arm}", floor=floor) for arm in scores]
    for arm in [a for a in scores if a != real]:
        found = judged.difference(arm, real, TEST)
        results.append(replace(found, name=f"AUROC, trained on {arm} less on {real}", floor=0.0))
    varying = [name for name in task.classes if task.varies(name, test)]
    for finding in varying if len(varying) > 1 else []:
        alone = Classifying(replace(task.config, classes=(finding,)), 1)
        for arm, found in scores.items():
            statistic = alone.statistic(found[TEST], test)
            name = f"AUROC {finding}, trained on {arm}"
            results.append(grouped_statistic(name, statistic, test.patients, "higher"))
    return results


class _Worker:
    """Trains, and writes what each network says of the test pictures."""

    def __init__(
        self, config: StudyConfig, task: Classifying, held_out: Mapping[str, Cases], output: Path
    ) -> None:  # fmt: skip
        self.config, self.task, self.held_out, self.output = config, task, held_out, output

    def __call__(self, items: Sequence[_Training]) -> Iterator[Done]:
        for item in items:
            stem = f"{item.arm} {item.seed}".replace(" ", "-")
            folder, file = self.output / FOLDER / stem, f"{FOLDER}/{stem}.npz"
            share = 0.5 if item.more is not None else 0.0
            model = fit(self.config, self.task, item.seed, folder, item.cases, item.more, share=share)
            write_scores(self.output / file, self.task, model, self.held_out)
            remove(folder)
            yield Done({"arm": item.arm}, files=(file,))
