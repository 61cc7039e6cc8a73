"""The pairs job: prompts in, images with masks out, as a data set to train segmenters on; each stage resumes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skiagraph.data.datasets import write_folder
from skiagraph.data.images import SYNTHETIC_TEXT, write_png
from skiagraph.data.masks import write_mask
from skiagraph.engine.contact_sheet import write_contact_sheet
from skiagraph.engine.generate import SHEET_LIMIT, SHEET_NAME, batches
from skiagraph.engine.manifest import open_manifest, save_manifest
from skiagraph.errors import MaskError, ReportError
from skiagraph.files import atomic_path, weight_hashes
from skiagraph.masks.folds import agreement, best_share, folds
from skiagraph.masks.refine import refine
from skiagraph.masks.threshold import confident_labels
from skiagraph.models.affinity_net import AffinityNet
from skiagraph.models.registry import DEFAULT_MODEL, load_component, model_folder
from skiagraph.pipelines.pairs import sample_with_maps
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.progress import progress
from skiagraph.training.images import to_model_range
from skiagraph.training.loop import train
from skiagraph.training.recipe import AffinityRecipe, DataConfig, OptimConfig, SegmenterRecipe
from skiagraph.training.tasks.affinity import AffinityTask
from skiagraph.training.tasks.segmenter import SegmenterTask, label_maps

FOLDS = 3
FEWEST_TO_FILTER = 12
"""Fewer pairs than this are all kept: a segmenter trained on two thirds of them could judge nothing."""

AREA = (0.02, 0.9)
"""Share of the picture that all classes together must cover."""


@dataclass(frozen=True)
class PairsConfig:
    """What a pairs run does: `count` images of prompts drawn from `prompts`, with masks of `classes`.

    `keep` is the share of pairs that survives the cross-validated filter (0.3 in DiffuMask).
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
    dtype: str = "float32"
    batch_size: int = 8
    device: str = "cpu"


def make_pairs(config: PairsConfig, output: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Make image and mask pairs in `output`, going on from where an earlier run with the same configuration stopped.

    Writes `images/`, `maps/` (soft), `masks/`, `overlays/`, `metadata.csv` (kept pairs as a data set), a contact sheet
    and the manifest, whose rows say of every pair its prompt, seed, thresholds, confidence and, if dropped, why.

    Raises:
        ReportError: no prompts, or one nobody understands.
        ModelError: a model that does not load or whose attention cannot be read, or words missing from a prompt.
        SkiagraphError: `output` holds another run.
    """
    if not config.prompts:
        raise ReportError("no prompts given; use --prompts FILE with one report a line")
    folder = model_folder(config.model)
    plain = asdict(config) | {"prompts": list(config.prompts), "classes": list(config.classes)}
    stored = {k: v for k, v in plain.items() if k not in ("batch_size", "device")}
    manifest = open_manifest(output, "pairs", stored, weights=weight_hashes(folder), pairs=[])
    job = _Job(config, output, manifest, quiet)
    job.sample()
    job.label()
    network = job.learn_affinities()
    job.refine(network)
    job.filter()
    job.publish()
    return manifest


def affinity_recipe(steps: int, seed: int) -> AffinityRecipe:
    """How an AffinityNet is trained on a run's own confident labels."""
    optim = OptimConfig(
        steps=steps, batch_size=8, learning_rate=2e-3, ema_decay=0.98, precision="no", validate_every=0,
        warmup_steps=20, tensorboard=False,
    )  # fmt: skip
    return AffinityRecipe(seed=seed, optim=optim)


class _Job:
    """One run's stages; each skips the rows it has done before."""

    def __init__(self, config: PairsConfig, output: Path, manifest: dict[str, Any], quiet: bool) -> None:
        self.config, self.output, self.manifest, self.quiet = config, output, manifest, quiet

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.manifest["pairs"]

    def alive(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["dropped"] is None]

    def sample(self) -> None:
        """Images and soft maps."""
        config = self.config
        bank = random.Random(config.seed)
        prompts = [bank.choice(config.prompts) for _ in range(config.count)]
        todo = range(len(self.rows), config.count)
        if not todo:
            return
        pipeline = TextToImagePipeline.load(config.model, dtype=getattr(torch, config.dtype), device=config.device)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.in_model_words(list(config.prompts))
        for part in self._track("sampling", list(batches(todo, config.batch_size))):
            seeds = [config.seed + i for i in part]
            sampled = sample_with_maps(
                pipeline, [prompts[i] for i in part], config.classes, seeds=seeds, steps=config.steps,
                guidance=config.guidance,
            )  # fmt: skip
            for i, image, heats, worded in zip(part, sampled.images, sampled.heats, sampled.prompts, strict=True):
                name = f"{i:05d}"
                text = {**SYNTHETIC_TEXT, "Prompt": worded, "Seed": str(config.seed + i)}
                write_png(self.output / "images" / f"{name}.png", image, text=text)
                for cls, heat in zip(config.classes, heats, strict=True):
                    write_png(self._map(name, cls), heat)
                row = {"name": name, "prompt": worded, "report": prompts[i], "seed": config.seed + i, "dropped": None}
                self.rows.append(row)
            save_manifest(self.output, self.manifest)

    def label(self) -> None:
        """Labels that affinities are learned from."""

        def confident(row: dict[str, Any]) -> None:
            labels = confident_labels(self._heats(row), self._image(row))
            _write_labels(self.output / "work/labels" / f"{row['name']}.png", labels)
            row["labelled"] = True

        self._each("labelling", "labelled", confident)

    def learn_affinities(self) -> AffinityNet | None:
        """An AffinityNet trained on this run's own images; None where no pair is left."""
        rows, folder = self.alive(), self.output / "work/affinity"
        if not rows or all("confidence" in row for row in rows):
            return None
        if not (folder / "model").is_dir():
            labels = [_read(self.output / "work/labels" / f"{row['name']}.png") for row in rows]
            recipe = affinity_recipe(self.config.affinity_steps, self.config.seed)
            train(recipe, AffinityTask(recipe, self._stack(rows), _tensor(labels)), folder, quiet=self.quiet)
        return AffinityNet.from_pretrained(folder / "model", use_safetensors=True).eval()

    def refine(self, network: AffinityNet | None) -> None:
        """Final masks, with the threshold that the affinities chose."""

        def refined(row: dict[str, Any]) -> None:
            image = self._image(row)
            with torch.no_grad():
                features = network(to_model_range(torch.from_numpy(image)[None, None]))[0]
            result = refine(self._heats(row), image, features)
            row["thresholds"], row["confidence"] = list(result.thresholds), round(result.confidence, 4)
            share = float((result.labels > 0).mean())
            lacking = [c for c, t in zip(self.config.classes, result.thresholds, strict=True) if t is None]
            if lacking:
                raise MaskError(f"no {', '.join(lacking)} found")
            if not AREA[0] <= share <= AREA[1]:
                raise MaskError(f"mask covers {share:.0%} of the picture")
            write_mask(self.output / "masks" / f"{row['name']}.png", result.labels, self.config.classes)

        self._each("refining", "confidence", refined)

    def filter(self) -> None:
        """Drop pairs that a segmenter trained on the others does not agree with."""
        rows = self.alive()
        if len(rows) < FEWEST_TO_FILTER or any("agreement" in row for row in self.rows):
            return
        images, labels = self._stack(rows), _tensor([self._labels(row) for row in rows])
        scores = np.zeros(len(rows))
        for number, (rest, part) in enumerate(folds(len(rows), FOLDS, self.config.seed)):
            model = self._segmenter(number, images[rest], labels[rest])
            predicted = label_maps(model, images[part]).numpy()
            scores[part] = [agreement(p, labels[i, 0].numpy()) for p, i in zip(predicted, part, strict=True)]
        for row, score, kept in zip(rows, scores, best_share(scores, self.config.keep), strict=True):
            row["agreement"] = round(float(score), 4)
            if not kept:
                row["dropped"] = f"agreement {score:.2f} is not among the best {self.config.keep:.0%}"
        save_manifest(self.output, self.manifest)

    def publish(self) -> None:
        """Overlays, the table of kept pairs as a data set, and a contact sheet."""
        rows = self.alive()
        for row in rows:
            _write_overlay(self.output / "overlays" / f"{row['name']}.png", self._image(row), self._labels(row))
        write_folder(self.output, (_folder_row(row, index) for index, row in enumerate(rows)))
        shown = rows[:SHEET_LIMIT]
        if shown:
            pictures = [_read(self.output / "overlays" / f"{row['name']}.png") / 255 for row in shown]
            write_contact_sheet(self.output / SHEET_NAME, pictures, [row["prompt"] for row in shown])
        save_manifest(self.output, self.manifest)

    def _segmenter(self, number: int, images: Tensor, labels: Tensor) -> torch.nn.Module:
        optim = OptimConfig(
            steps=self.config.filter_steps, batch_size=16, learning_rate=2e-3, ema_decay=0.98, precision="no",
            validate_every=0, warmup_steps=20, tensorboard=False,
        )  # fmt: skip
        data = DataConfig(datasets=[], image_size=128)
        recipe = SegmenterRecipe(
            task="segmenter", seed=self.config.seed + number, data=data, optim=optim, classes=list(self.config.classes)
        )
        folder = self.output / "work" / f"fold-{number}"
        task = SegmenterTask(recipe, (images, labels), (images, labels))
        return load_component(train(recipe, task, folder, quiet=self.quiet)).eval()

    def _each(self, title: str, done: str, work: Callable[[dict[str, Any]], None]) -> None:
        """Do `work` on every row that lacks the key `done`; a MaskError drops the row with its reason."""
        todo = [row for row in self.alive() if done not in row]
        for number, row in enumerate(self._track(title, todo)):
            try:
                work(row)
            except MaskError as error:
                row["dropped"] = str(error)
            if number % 10 == 9:
                save_manifest(self.output, self.manifest)
        save_manifest(self.output, self.manifest)

    def _track(self, title: str, items: Sequence[Any]) -> Iterator[Any]:
        with progress(title, len(items), quiet=self.quiet) as update:
            for count, item in enumerate(items, start=1):
                yield item
                update(count)

    def _map(self, name: str, cls: str) -> Path:
        return self.output / "maps" / f"{name}-{cls.replace(' ', '-')}.png"

    def _image(self, row: dict[str, Any]) -> np.ndarray:
        return _read(self.output / "images" / f"{row['name']}.png")

    def _labels(self, row: dict[str, Any]) -> np.ndarray:
        stored = _read(self.output / "masks" / f"{row['name']}.png")
        return (stored > 0).astype(np.uint8) if len(self.config.classes) == 1 else stored

    def _heats(self, row: dict[str, Any]) -> np.ndarray:
        maps = [_read(self._map(row["name"], cls)) for cls in self.config.classes]
        return np.stack(maps).astype(np.float32) / 255

    def _stack(self, rows: list[dict[str, Any]]) -> Tensor:
        return _tensor([self._image(row) for row in rows])


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


def _write_labels(path: Path, labels: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(labels).save(temporary, format="PNG")


def _write_overlay(path: Path, image: np.ndarray, labels: np.ndarray) -> None:
    """The image with the mask's area tinted and its border white."""
    inside = labels > 0
    border = inside & ~(np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1))
    colours = np.repeat(image[..., None], 3, axis=-1).astype(np.float32)
    tints = np.array([[0, 0, 0], [255, 80, 60], [70, 150, 255], [90, 220, 120]], np.float32)
    tinted = 0.7 * colours + 0.3 * tints[1 + (labels.astype(int) - 1) % 3]
    colours = np.where(inside[..., None], tinted, colours)
    colours[border] = 255
    with atomic_path(path) as temporary:
        Image.fromarray(colours.astype(np.uint8)).save(temporary, format="PNG")
