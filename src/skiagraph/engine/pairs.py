"""The pairs job: prompts in, images with masks out, as a data set to train segmenters on; each stage resumes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skiagraph.data.datasets import write_folder
from skiagraph.data.images import SYNTHETIC_TEXT, write_png
from skiagraph.data.masks import write_labels, write_mask
from skiagraph.devices import AUTO
from skiagraph.domains.domain import Domain, model_domain
from skiagraph.engine.card import card_names, write_card
from skiagraph.engine.contact_sheet import SHEET_LIMIT, SHEET_NAME, write_contact_sheet
from skiagraph.engine.executor import HERE, Executor
from skiagraph.engine.job import Done, Run, open_run, plain
from skiagraph.engine.overlay import overlaid
from skiagraph.errors import MaskError, ReportError
from skiagraph.files import atomic_path, weight_hashes
from skiagraph.masks.folds import agreement, best_share, folds
from skiagraph.masks.refine import refine
from skiagraph.masks.threshold import confident_labels
from skiagraph.models.affinity_net import AffinityNet
from skiagraph.models.registry import DEFAULT_MODEL, load_component, model_folder
from skiagraph.pipelines.pairs import sample_with_maps
from skiagraph.pipelines.published import load_pipeline
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.progress import Listener, progress
from skiagraph.training.images import to_model_range
from skiagraph.training.loop import train
from skiagraph.training.recipe import AffinityRecipe, DataConfig, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.affinity import AffinityTask
from skiagraph.training.tasks.segmenter import SegmenterTask, label_maps

FOLDS = 3
FEWEST_TO_FILTER = 12
"""Fewer pairs than this are all kept: the best share of them would be a few."""

FEWEST_TO_TRAIN = 100
"""Runs of fewer images take the shipped networks where these know their classes: training took most of their time."""

AREA = (0.02, 0.9)
"""Share of the picture that all classes together must cover."""


@dataclass(frozen=True)
class PairsConfig:
    """What a pairs run does: `count` images of prompts drawn from `prompts`, with masks of `classes`.

    `keep` is the share of pairs that survives the filter (0.3 in DiffuMask). The AffinityNet and the filter's
    segmenters are trained on the run's own images, as published, in runs of `FEWEST_TO_TRAIN` images or more and of
    classes that no shipped network knows; `own_networks` decides otherwise. The shipped segmenter has seen drawn masks.
    """

    prompts: tuple[str, ...]
    count: int
    classes: tuple[str, ...] = ("lung",)
    model: str = DEFAULT_MODEL
    seed: int = 0
    steps: int = 30
    guidance: float = 2.0
    keep: float = 0.3
    affinity_steps: int = 300
    filter_steps: int = 200
    own_networks: bool | None = None
    dtype: str = "float32"
    batch_size: int = 8
    device: str = AUTO


def make_pairs(
    config: PairsConfig, output: Path, *, overwrite: bool = False, listen: Listener = progress,
    executor: Executor = HERE,
) -> dict[str, Any]:  # fmt: skip
    """Make image and mask pairs in `output`, going on from where an earlier run with the same configuration stopped.

    Writes `images/`, `maps/` (soft), `masks/`, `overlays/`, `metadata.csv` (kept pairs as a data set), a contact sheet
    and the manifest, whose rows say of every pair its prompt, seed, thresholds, confidence and, if dropped, why.

    Args:
        config: what to make.
        output: folder of the data set and `manifest.json`.
        overwrite: remove what another run left in `output`.
        listen: hears of progress.
        executor: who draws the images; their masks are made in this process.

    Raises:
        ReportError: no prompts, or one nobody understands.
        ModelError: a model that does not load or whose attention cannot be read, or words missing from a prompt.
        SkiagraphError: `output` holds another run.
    """
    if not config.prompts:
        raise ReportError("no prompts given; use --prompts FILE with one report a line")
    weights = weight_hashes(model_folder(config.model))
    stored = plain(config, "batch_size", "device")
    with open_run(output, "pairs", stored, weights=weights, pairs=[], overwrite=overwrite, listen=listen) as run:
        stages = _Stages(config, run)
        stages.sample(executor)
        run.claim("work", "overlays", "metadata.csv", SHEET_NAME, *card_names(output))
        stages.refine(stages.affinities())
        stages.filter()
        return stages.publish()


def affinity_recipe(steps: int, seed: int) -> AffinityRecipe:
    """How an AffinityNet is trained on a run's own confident labels."""
    optim = OptimConfig(
        steps=steps, batch_size=8, learning_rate=2e-3, ema_decay=0.98, precision="float32", validate_every=0,
        warmup_steps=20, tensorboard=False,
    )  # fmt: skip
    return AffinityRecipe(seed=seed, optim=optim)


@dataclass(frozen=True)
class _Sample:
    name: str
    prompt: str
    seed: int


class _Stages:
    """One run's stages; `rows` is what is known of every pair so far."""

    def __init__(self, config: PairsConfig, run: Run) -> None:
        self.config, self.run, self.output = config, run, run.output
        self.domain = model_domain(model_folder(config.model))
        self.rows: dict[str, dict[str, Any]] = {}

    def alive(self) -> list[dict[str, Any]]:
        return [row for row in self.rows.values() if row["dropped"] is None]

    def sample(self, executor: Executor) -> None:
        """Images and soft maps."""
        config = self.config
        bank = random.Random(config.seed)
        items = {
            f"{i:05d}": _Sample(f"{i:05d}", bank.choice(config.prompts), config.seed + i) for i in range(config.count)
        }
        with executor.start(partial(_Sampler, config, self.output), config.device) as work:
            sampled = self.run.each("sampling", items, work, batch_size=config.batch_size)
        self.rows = {name: kept.row for name, kept in sampled.kept.items()}

    @property
    def own_networks(self) -> bool:
        """Whether this run trains its networks on its own images."""
        if self.config.own_networks is not None:
            return self.config.own_networks
        return self.config.count >= FEWEST_TO_TRAIN or not self._known()

    def _known(self) -> bool:
        """Whether the domain's networks know all classes."""
        named = self.domain.affinity and self.domain.segmenter
        return bool(named) and set(self.config.classes) <= set(self.domain.segmenter_values)

    def affinities(self) -> AffinityNet | None:
        """The shipped AffinityNet, or this run's own; None where no pair is left."""
        if not self.own_networks:
            return load_component(self.domain.affinity).eval()
        self.label()
        return self.learn_affinities()

    def label(self) -> None:
        """Labels that affinities are learned from."""

        def confident(row: dict[str, Any]) -> Done:
            labels = confident_labels(self._heats(row), self._image(row), self.domain.masks)
            file = f"work/labels/{row['name']}.png"
            write_labels(self.output / file, labels)
            return Done({"labelled": True}, files=(file,))

        self._each("labelling", confident)

    def learn_affinities(self) -> AffinityNet | None:
        """An AffinityNet trained on this run's own images; None where no pair is left."""
        rows, folder = self.alive(), self.output / "work/affinity"
        if not rows:
            return None
        if not (folder / "model").is_dir():
            labels = [_read(self.output / "work/labels" / f"{row['name']}.png") for row in rows]
            recipe = affinity_recipe(self.config.affinity_steps, self.config.seed)
            task = AffinityTask(recipe, self._stack(rows), _tensor(labels))
            train(recipe, task, folder, device=self.config.device, listen=self.run.listen)
        return AffinityNet.from_pretrained(folder / "model", use_safetensors=True).eval()

    def refine(self, network: AffinityNet | None) -> None:
        """Final masks, with the threshold that the affinities chose."""

        def refined(row: dict[str, Any]) -> Done:
            image = self._image(row)
            with torch.no_grad():
                features = network(to_model_range(torch.from_numpy(image)[None, None]))[0]
            result = refine(self._heats(row), image, features, self.domain.masks)
            found = {"thresholds": list(result.thresholds), "confidence": round(result.confidence, 4)}
            share = float((result.labels > 0).mean())
            lacking = [c for c, t in zip(self.config.classes, result.thresholds, strict=True) if t is None]
            if lacking:
                return Done({**found, "dropped": f"no {', '.join(lacking)} found"})
            if not AREA[0] <= share <= AREA[1]:
                return Done({**found, "dropped": f"mask covers {share:.0%} of the picture"})
            file = f"masks/{row['name']}.png"
            write_mask(self.output / file, result.labels, self.config.classes)
            return Done(found, files=(file,))

        self._each("refining", refined)

    def filter(self) -> None:
        """Drop pairs that a segmenter trained on the others does not agree with."""
        rows = self.alive()
        if len(rows) < FEWEST_TO_FILTER:
            return
        judged = self.run.each(
            "filtering", {"all": rows}, lambda batch: [Done({"agreement": self._agreement(batch[0])})]
        )
        scores = judged.kept["all"].row["agreement"]
        kept = best_share(np.array([scores[row["name"]] for row in rows]), self.config.keep)
        for row, keep in zip(rows, kept, strict=True):
            row["agreement"] = round(scores[row["name"]], 4)
            if not keep:
                row["dropped"] = f"agreement {scores[row['name']]:.2f} is not among the best {self.config.keep:.0%}"

    def publish(self) -> dict[str, Any]:
        """Overlays, the table of kept pairs as a data set, and a contact sheet."""
        rows = self.alive()
        for row in rows:
            _write_overlay(self.output / "overlays" / f"{row['name']}.png", self._image(row), self._labels(row))
        write_folder(self.output, (_folder_row(row, index) for index, row in enumerate(rows)))
        shown = rows[:SHEET_LIMIT]
        if shown:
            pictures = [_read(self.output / "overlays" / f"{row['name']}.png") / 255 for row in shown]
            write_contact_sheet(self.output / SHEET_NAME, pictures, [row["prompt"] for row in shown])
        manifest = self.run.finish(pairs=list(self.rows.values()))
        write_card(self.output, manifest)
        return manifest

    def _agreement(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """How well a segmenter that has not seen it, one trained on others or the judge, agrees with each pair."""
        images, labels = self._stack(rows), _tensor([self._labels(row) for row in rows])
        if not self.own_networks:
            found = _known_classes(
                label_maps(load_component(self.domain.segmenter).eval(), images), self.config.classes, self.domain
            )
            both = zip(rows, found, labels[:, 0].numpy(), strict=True)
            return {row["name"]: float(agreement(predicted, drawn)) for row, predicted, drawn in both}
        scores: dict[str, float] = {}
        for number, (rest, part) in enumerate(folds(len(rows), FOLDS, self.config.seed)):
            model = self._segmenter(number, images[rest], labels[rest])
            predicted = label_maps(model, images[part]).numpy()
            scores |= {
                rows[i]["name"]: float(agreement(p, labels[i, 0].numpy())) for p, i in zip(predicted, part, strict=True)
            }
        return scores

    def _segmenter(self, number: int, images: Tensor, labels: Tensor) -> torch.nn.Module:
        optim = OptimConfig(
            steps=self.config.filter_steps, batch_size=16, learning_rate=2e-3, ema_decay=0.98, precision="float32",
            validate_every=0, warmup_steps=20, tensorboard=False,
        )  # fmt: skip
        data = DataConfig(datasets=[], image_size=128)
        recipe = SegmenterRecipe(
            task="segmenter", seed=self.config.seed + number, data=data, optim=optim, classes=list(self.config.classes)
        )
        folder = self.output / "work" / f"fold-{number}"
        task = SegmenterTask(recipe, (images, labels), (images, labels))
        trained = train(recipe, task, folder, device=self.config.device, listen=self.run.listen)
        return load_component(trained).eval()

    def _each(self, stage: str, work: Callable[[dict[str, Any]], Done]) -> None:
        """Do `work` on every row that is not dropped, and add what it says; a MaskError drops the row."""

        def safe(rows: Sequence[dict[str, Any]]) -> Iterator[Done]:
            for row in rows:
                try:
                    yield work(row)
                except MaskError as error:
                    yield Done({"dropped": str(error)})

        done = self.run.each(stage, {row["name"]: row for row in self.alive()}, safe)
        for name, kept in done.kept.items():
            self.rows[name] |= kept.row

    def _image(self, row: dict[str, Any]) -> np.ndarray:
        return _read(self.output / "images" / f"{row['name']}.png")

    def _labels(self, row: dict[str, Any]) -> np.ndarray:
        stored = _read(self.output / "masks" / f"{row['name']}.png")
        return (stored > 0).astype(np.uint8) if len(self.config.classes) == 1 else stored

    def _heats(self, row: dict[str, Any]) -> np.ndarray:
        maps = [_read(self.output / _map_file(row["name"], cls)) for cls in self.config.classes]
        return np.stack(maps).astype(np.float32) / 255

    def _stack(self, rows: list[dict[str, Any]]) -> Tensor:
        return _tensor([self._image(row) for row in rows])


class _Sampler:
    """Draws images with the maps of their classes; the model is loaded when the first is drawn."""

    def __init__(self, config: PairsConfig, output: Path) -> None:
        self.config, self.output = config, output

    @cached_property
    def pipeline(self) -> TextToImagePipeline:
        config = self.config
        pipeline = load_pipeline(config.model, dtype=getattr(torch, config.dtype), device=config.device)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.in_model_words(list(config.prompts))
        return pipeline

    def __call__(self, samples: Sequence[_Sample]) -> Iterator[Done]:
        config = self.config
        made = sample_with_maps(
            self.pipeline, [s.prompt for s in samples], config.classes, seeds=[s.seed for s in samples],
            steps=config.steps, guidance=config.guidance,
        )  # fmt: skip
        for sample, image, heats, worded in zip(samples, made.images, made.heats, made.prompts, strict=True):
            yield self._written(sample, image, heats, worded)

    def _written(self, sample: _Sample, image: np.ndarray, heats: np.ndarray, worded: str) -> Done:
        files = [f"images/{sample.name}.png"]
        text = {**SYNTHETIC_TEXT, "Prompt": worded, "Seed": str(sample.seed)}
        write_png(self.output / files[0], image, text=text)
        for cls, heat in zip(self.config.classes, heats, strict=True):
            files.append(_map_file(sample.name, cls))
            write_png(self.output / files[-1], heat)
        row = {"name": sample.name, "prompt": worded, "report": sample.prompt, "seed": sample.seed, "dropped": None}
        return Done(row, files=tuple(files))


def _map_file(name: str, cls: str) -> str:
    return f"maps/{name}-{cls.replace(' ', '-')}.png"


def _known_classes(found: Tensor, classes: Sequence[str], domain: Domain) -> np.ndarray:
    """The judge's label maps (n, H, W) in the numbers of a run's classes."""
    labels = np.zeros(found.shape, np.uint8)
    for number, name in enumerate(classes, start=1):
        labels[np.isin(found.numpy(), domain.segmenter_values[name])] = number
    return labels


def _folder_row(row: dict[str, Any], index: int) -> dict[str, str]:
    """The data set's row of the `index`-th kept pair; every tenth one validates."""
    name = row["name"]
    return {
        "file": f"images/{name}.png", "patient": f"synthetic-{name}", "split": "val" if index % 10 == 9 else "train",
        "report": row["prompt"], "mask": f"masks/{name}.png",
    }  # fmt: skip


def _tensor(pictures: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures))[:, None]


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture.convert("L"))


def _write_overlay(path: Path, image: np.ndarray, labels: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(overlaid(image, labels)).save(temporary, format="PNG")
