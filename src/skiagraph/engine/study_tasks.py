"""The two things that a study trains: segmenters of drawn masks, and classifiers of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from skiagraph.data.datasets import READERS, Record, masked
from skiagraph.domains.domain import DEFAULT, load_domain
from skiagraph.errors import DataError
from skiagraph.evaluation.classification import mean_auroc
from skiagraph.evaluation.statistics import Statistic
from skiagraph.training.images import load_images
from skiagraph.training.loop import Task
from skiagraph.training.recipe import ClassifierRecipe, DataConfig, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.classifier import ClassifierTask, logits_of
from skiagraph.training.tasks.segmenter import SegmenterTask, label_maps, read_masks

if TYPE_CHECKING:
    from skiagraph.engine.study import StudyConfig

LEARNING_RATE, BATCH = 2e-3, 16
SMALL = [16, 32, 64, 96]
"""Widths of a study's classifiers, which see few cases."""

Pairs = tuple[Tensor, Tensor]
"""Images uint8 (n, channels, size, size), and what is to be found in each."""


@dataclass(frozen=True)
class Cases:
    """Images with what is to be found in them, and the record of each."""

    pairs: Pairs
    records: Sequence[Record]

    @property
    def patients(self) -> np.ndarray:
        """The patient of each, (n,)."""
        return np.array([record.patient for record in self.records])


class StudyTask(Protocol):
    """What a study needs to know of the thing it trains; a difference below `margin` is one that nobody minds."""

    metric: str
    margin: float
    needs: str
    classes: tuple[str, ...]

    def usable(self, records: Sequence[Record]) -> list[Record]: ...

    def cases(self, records: Sequence[Record]) -> Cases: ...

    def check(self, name: str, cases: Cases) -> None: ...

    def training(
        self, pairs: Pairs, sources: Sequence[str], seed: int, augmentation: float, sampling: dict[str, float]
    ) -> Task: ...

    def labelled(self, teacher: nn.Module, images: Tensor) -> Tensor: ...

    def scores(self, model: nn.Module, cases: Cases) -> np.ndarray: ...

    def statistic(self, scores: np.ndarray, cases: Cases) -> Statistic: ...


class Segmenting:
    """Segmenters of the configuration's classes, judged by Dice."""

    metric, margin, needs = "Dice", 0.005, "a mask"

    def __init__(self, config: StudyConfig, channels: int) -> None:
        self.config, self.channels = config, channels
        self.classes = config.classes or ("lung",)

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """Those with a mask that may be trusted."""
        return masked(records)

    def cases(self, records: Sequence[Record]) -> Cases:
        """Images and label maps, uint8 (n, 1, size, size)."""
        recipe = self._recipe(0, 1.0, {})
        kept, masks = read_masks(list(records), recipe)
        images = load_images(kept, recipe.data.image_size, recipe.data.fit, self.channels)
        return Cases((images, masks), kept)

    def check(self, name: str, cases: Cases) -> None:
        """Refuse held-out cases of which nothing could be learned."""
        for label, title in enumerate(self.classes, start=1):
            if not (cases.pairs[1] == label).any():
                raise DataError(f"{name}: no mask has a pixel of {title}; see --classes")

    def training(
        self, pairs: Pairs, sources: Sequence[str], seed: int, augmentation: float, sampling: dict[str, float]
    ) -> SegmenterTask:
        """What `skiagraph.training.loop.train` trains."""
        return SegmenterTask(self._recipe(seed, augmentation, sampling), pairs, _few(pairs), sources)

    def labelled(self, teacher: nn.Module, images: Tensor) -> Tensor:
        """Label maps that a teacher finds in images."""
        return label_maps(teacher, images).to(torch.uint8)[:, None]

    def scores(self, model: nn.Module, cases: Cases) -> np.ndarray:
        """Dice (n,) of each case, the mean of its classes; 1 where a class is in neither mask."""
        found, drawn = label_maps(model, cases.pairs[0]), cases.pairs[1][:, 0]
        values = []
        for label in range(1, len(model.config.classes)):
            a, b = found == label, drawn == label
            total = (a.sum(dim=(1, 2)) + b.sum(dim=(1, 2))).numpy()
            values.append(np.where(total, 2 * (a & b).sum(dim=(1, 2)).numpy() / np.maximum(total, 1), 1.0))
        return np.mean(values, axis=0)

    def statistic(self, scores: np.ndarray, cases: Cases) -> Statistic:
        """Mean of the cases' Dice (seeds, n)."""
        return lambda weights: scores @ weights / weights.sum()

    def _recipe(self, seed: int, augmentation: float, sampling: dict[str, float]) -> SegmenterRecipe:
        return SegmenterRecipe(
            task="segmenter", classes=list(self.classes), in_channels=self.channels, mirror=self.channels == 3,
            **_common(self.config, seed, augmentation, sampling),
        )  # fmt: skip


class Classifying:
    """Classifiers of findings, judged by AUROC: the mean of the configuration's classes, or of all that vary."""

    metric, margin, needs = "AUROC", 0.01, "labels"

    def __init__(self, config: StudyConfig, channels: int) -> None:
        if channels != 1:
            raise DataError(f"{config.data} holds colour pictures; findings are classified on grey radiographs")
        self.config, self.domain = config, load_domain(DEFAULT)
        targets = self.domain.targets
        if unknown := set(config.classes) - set(targets):
            raise DataError(f"--classes {', '.join(sorted(unknown))}: choose among {', '.join(targets)}")
        self.classes = config.classes or tuple(name for name in targets if name in self.domain.labels)

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """Those with labels, or with a report that states findings or a normal chest."""
        return [r for r in records if r.labels]

    def cases(self, records: Sequence[Record]) -> Cases:
        """Images and targets, float32 (n, targets); in tables of one's own labels name all findings of a picture."""
        data = _common(self.config, 0, 1.0, {})["data"]
        images = load_images(list(records), data.image_size, data.fit)
        targets = torch.tensor([self.domain.target_values(r, r.dataset not in READERS) for r in records])
        return Cases((images, targets), records)

    def check(self, name: str, cases: Cases) -> None:
        """Refuse held-out cases of which nothing could be learned."""
        if not self._varying(cases):
            raise DataError(
                f"{name}: no finding is known to be there in one case and absent in another; give labels, or other "
                "--classes"
            )

    def training(
        self, pairs: Pairs, sources: Sequence[str], seed: int, augmentation: float, sampling: dict[str, float]
    ) -> ClassifierTask:
        """What `skiagraph.training.loop.train` trains."""
        common = _common(self.config, seed, augmentation, sampling)
        recipe = ClassifierRecipe(task="classifier", channels=SMALL, **common)
        return ClassifierTask(recipe, pairs, _few(pairs), sources)

    def labelled(self, teacher: nn.Module, images: Tensor) -> Tensor:
        """A teacher's probabilities."""
        return logits_of(teacher, images, next(teacher.parameters()).device).sigmoid()

    def scores(self, model: nn.Module, cases: Cases) -> np.ndarray:
        """Logits (n, targets)."""
        return logits_of(model, cases.pairs[0], next(model.parameters()).device).numpy()

    def statistic(self, scores: np.ndarray, cases: Cases) -> Statistic:
        """AUROC of logits (seeds, n, targets), the mean of the findings that are both there and absent."""
        varying = self._varying(cases)
        return mean_auroc(scores[:, :, varying], cases.pairs[1].numpy()[:, varying])

    def varies(self, finding: str, cases: Cases) -> bool:
        """Whether some cases are known to have a finding and others not to."""
        return {0.0, 1.0} <= set(cases.pairs[1][:, self.domain.targets.index(finding)].tolist())

    def _varying(self, cases: Cases) -> list[int]:
        """Places of the findings that vary."""
        return [self.domain.targets.index(name) for name in self.classes if self.varies(name, cases)]


def _few(pairs: Pairs) -> Pairs:
    """Nothing is validated while a study trains; a task wants some cases for it all the same."""
    return tuple(part[:2] for part in pairs)


def _common(config: StudyConfig, seed: int, augmentation: float, sampling: dict[str, float]) -> dict[str, Any]:
    """What the recipes of both have in common."""
    optim = OptimConfig(
        steps=config.steps, batch_size=BATCH, learning_rate=LEARNING_RATE, weight_decay=0.01, ema_decay=0.99,
        precision="float32", validate_every=0, warmup_steps=50, tensorboard=False,
    )  # fmt: skip
    data = DataConfig(datasets=[config.data], image_size=config.size, fit="pad")
    return {"seed": seed, "data": data, "optim": optim, "augmentation": augmentation, "sampling": sampling}


TASKS = {"segment": Segmenting, "classify": Classifying}
"""What `skiagraph study --task` trains, by name."""
