"""What `edit_table.py` measures of a set of edited radiographs."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPVisionModelWithProjection

from edit_cases import DATASETS, Case, Prepared
from held_out import squares
from probes import reporting_judges
from skiagraph.data.datasets import load_records
from skiagraph.evaluation import (
    MetricResult,
    frechet_distance,
    iou,
    kernel_distance,
    nearest_neighbours,
    ssim,
)
from skiagraph.evaluation.imagenet import EXTRACTOR, ImageNetExtractor
from skiagraph.evaluation.judges import agreement
from skiagraph.evaluation.result import mean_result
from skiagraph.models.registry import load_component
from skiagraph.pipelines.organs import SEGMENTER, find_lungs

REFERENCE = 400
"""Other test patients' radiographs that distances refer to, at most."""

BRIGHT = 0.98
"""Share of a radiograph's pixels that a burnt pixel is brighter than."""

CLIP_MEAN, CLIP_STD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)


class Judge:
    """Everything about the originals, computed once; called with edited pictures (n, H, W) of them."""

    def __init__(
        self, known: list[tuple[Case, Prepared]], root: str | Path | None, side: int, encoder: str | None, cache: Path
    ):
        self.cases = [c for c, _ in known]
        self.before = np.stack([np.round(p.image * 255) / 255 for _, p in known]).astype(np.float32)
        self.roi = np.stack([p.roi for _, p in known])
        self.added = np.array([c.added for c in self.cases])
        self.judges, self.imagenet = reporting_judges(root, cache), ImageNetExtractor()
        self.segmenter = load_component(SEGMENTER).eval()
        self.encoder_name = Path(encoder).name if encoder else EXTRACTOR
        self.encode = _clip(encoder) if encoder else self.imagenet.features
        self.scores = {judge.name: judge(self.before) for judge in self.judges}
        self.features = self.imagenet.features(self.before)
        self.encoded, self.lungs = self.encode(self.before), self._lungs(self.before)
        self.others = self.imagenet.features(_others(self.cases, root, side))

    def __call__(self, after: np.ndarray) -> dict[str, MetricResult]:
        """Metrics by column."""
        features = self.imagenet.features(after)
        moved = np.abs(after - self.before)
        inside, total = (moved * self.roi).sum(axis=(1, 2)), moved.sum(axis=(1, 2))
        outside = (moved * ~self.roi).max(axis=(1, 2))
        own = nearest_neighbours(features, np.concatenate([self.features, self.others]))[1] == np.arange(len(after))
        clip = np.sum(_unit(self.encode(after)) * _unit(self.encoded), axis=1)
        found = {
            **self._confidences(after),
            f"CLIP-I [{self.encoder_name}]": _mean("CLIP-I", clip, "higher"),
            "SSIM": ssim(self.before, after, data_range=1.0),
            f"perceptual distance [{EXTRACTOR}]": _mean(
                "perceptual distance", self.imagenet.perceptual_distance(self.before, after), "lower"
            ),
            "largest change outside": _mean("largest change outside", outside, "lower"),
            "burnt": _mean("burnt", burnt(self.before, after, self.roi), "lower"),
            "share of change inside": _mean("share inside", inside[total > 0] / total[total > 0], "higher"),
            "IoU of lungs": iou(self._lungs(after), self.lungs),
            "same patient nearest": _mean("identity", own, "higher"),
            f"kernel distance [{EXTRACTOR}]": kernel_distance(self.others, features, extractor=EXTRACTOR),
            f"Frechet distance [{EXTRACTOR}]": frechet_distance(self.others, features, extractor=EXTRACTOR),
        }
        return {name: result for name, result in found.items() if result is not None}

    def _confidences(self, after: np.ndarray) -> dict[str, MetricResult | None]:
        """What each judge says of the findings, and how far the judges agree on how it changed."""
        found: dict[str, MetricResult | None] = {}
        changes = {}
        for judge in self.judges:
            now, was = (
                np.array([s[c.finding][i] for i, c in enumerate(self.cases)])
                for s in (judge(after), self.scores[judge.name])
            )
            whose = f"[{judge.name}]"
            found[f"Conf {whose}"] = _mean("Conf", np.where(self.added, now, 1 - now), "higher")
            found[f"Conf, added {whose}"] = _mean("Conf, added", now[self.added], "higher")
            found[f"Conf, taken away {whose}"] = _mean("Conf, removed", 1 - now[~self.added], "higher")
            found[f"rises, added {whose}"] = _mean("rises, added", (now > was)[self.added], "higher")
            found[f"falls, taken away {whose}"] = _mean("falls, removed", (now < was)[~self.added], "higher")
            changes[judge.name] = now - was
        first, second = ({"change": change} for change in changes.values())
        return found | {"agreement of judges": agreement(first, second)["change"]}

    def _lungs(self, images: np.ndarray) -> np.ndarray:
        return (
            find_lungs(self.segmenter, torch.from_numpy(np.round(images * 255).astype(np.uint8))[:, None]).numpy() > 0
        )


def burnt(before: np.ndarray, after: np.ndarray, roi: np.ndarray) -> np.ndarray:
    """Share (n,) of a region's pixels that an edit made brighter than nearly all of the radiograph was.

    Args:
        before: radiographs (n, H, W).
        after: edited.
        roi: bool (n, H, W), the regions.
    """
    limits = np.quantile(before, BRIGHT, axis=(1, 2))[:, None, None]
    return ((after > limits) & (before <= limits) & roi).sum(axis=(1, 2)) / roi.sum(axis=(1, 2)).clip(1)


def _mean(name: str, values: np.ndarray, direction: str) -> MetricResult | None:
    """Mean over cases with its bootstrap interval; None of no cases."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return None
    return mean_result(name, values, direction, seed=0)


def _others(cases: list[Case], root: str | Path | None, side: int) -> np.ndarray:
    """Radiographs of other test patients, one each."""
    taken = {(c.record.dataset, c.record.patient) for c in cases}
    records = {(r.dataset, r.patient): r for r in load_records(DATASETS, root, splits=["test"])}
    free = [r for key, r in sorted(records.items()) if key not in taken]
    chosen = random.Random(0).sample(free, min(REFERENCE, len(free)))
    return squares(chosen, side, "pad")


def _clip(folder: str) -> Callable[[np.ndarray], np.ndarray]:
    """Image embeddings of a transformers CLIP from a local folder."""
    model = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))

    @torch.no_grad()
    def encode(images: np.ndarray) -> np.ndarray:
        size = (model.config.image_size,) * 2
        batches = torch.from_numpy(images)[:, None].split(16)
        resized = (F.interpolate(b, size, mode="bicubic", antialias=True).clamp(0, 1) for b in batches)
        return torch.cat([model((r.expand(-1, 3, -1, -1) - mean) / std).image_embeds for r in resized]).numpy()

    return encode


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
