"""What metrics need of edited pictures beside their originals, computed once, and the metrics of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.metrics import MultiScaleSSIMMetric

from skiagraph.data.edit_sets import EditPair
from skiagraph.data.images import read_radiograph, square
from skiagraph.data.masks import read_region
from skiagraph.engine.evaluation_page import Section
from skiagraph.engine.job import Done, Run, batches
from skiagraph.errors import ImageError
from skiagraph.evaluation.copies import nearest_neighbours
from skiagraph.evaluation.extractors import Extractor
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.evaluation.judges import Judge
from skiagraph.evaluation.lpips import NAME as LPIPS
from skiagraph.evaluation.lpips import Lpips
from skiagraph.evaluation.overlap import iou
from skiagraph.evaluation.result import MetricResult, mean_result
from skiagraph.evaluation.similarity import SIGMA, WINDOW, ssim
from skiagraph.files import atomic_path, sha256
from skiagraph.models.latent_segmenter import LatentSegmenter
from skiagraph.models.segmenter import Segmenter

SIDE = 256
PART = 16
"""Edits in memory at a time."""


@dataclass(frozen=True)
class EditMeasures:
    """What is computed of each edit."""

    extractors: Sequence[Extractor]
    judge: Judge
    segmenter: Segmenter | LatentSegmenter
    segmenter_name: str
    lpips: Lpips | None = None

    def __call__(self, before: np.ndarray, after: np.ndarray, region: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays with a row for each edit, of pictures (n, SIDE, SIDE) in [0, 1] and regions bool of that shape."""
        found: dict[str, np.ndarray] = {}
        for extractor in self.extractors:
            for when, pictures in (("before", before), ("after", after)):
                found[f"{when} features {extractor.name}"] = extractor.features(pictures).astype(np.float32)
            if isinstance(extractor, ImageNetExtractor):
                found[f"perceptual distance {extractor.name}"] = extractor.perceptual_distance(before, after)
        if self.lpips is not None:
            found["LPIPS"] = self.lpips.perceptual_distance(before, after)
        for when, pictures in (("before", before), ("after", after)):
            found |= {f"{when} score {finding}": p for finding, p in self.judge(pictures).items()}
        moved = np.abs(after - before)
        inside, total = (moved * region).sum(axis=(1, 2)), moved.sum(axis=(1, 2))
        known = region.any(axis=(1, 2))
        share = np.divide(inside, total, out=np.ones_like(total), where=total > 0)
        found["SSIM"] = np.array(ssim(before, after, data_range=1.0).details["values"])
        found["MS-SSIM"] = _multi_scale(before, after)
        found["share of change inside"] = np.where(known, share, np.nan)
        found["largest change outside"] = np.where(known, (moved * ~region).max(axis=(1, 2)), np.nan)
        found["IoU of lungs"] = np.array(iou(self._lungs(after), self._lungs(before)).details["values"])
        return found

    def _lungs(self, pictures: np.ndarray) -> np.ndarray:
        side = self.segmenter.config.working_size
        small = np.stack([square(picture, side) for picture in pictures])
        return self.segmenter.segment(torch.from_numpy(small)[:, None] * 2 - 1).cpu().numpy() > 0


def measured_edits(run: Run, pairs: Sequence[EditPair], measures: EditMeasures) -> dict[str, np.ndarray]:
    """Measures of edits, a row each in their order, computed where no earlier run of the folder did.

    Raises:
        ImageError, MaskError: a picture or region that cannot be read, or of another size than its original.
    """
    parts = {_key(part, measures): part for part in batches(list(pairs), PART)}
    made = run.each("measuring edits", {key: (key, part) for key, part in parts.items()}, _Worker(run.output, measures))
    arrays = []
    for key in parts:
        with np.load(run.output / made.kept[key].row["file"]) as stored:
            arrays.append({name: stored[name] for name in stored.files})
    return {name: np.concatenate([a[name] for a in arrays]) for name in arrays[0]}


def edits(
    pairs: Sequence[EditPair], found: dict[str, np.ndarray], others: dict[str, np.ndarray], judge: str, seed: int
) -> Section:
    """Whether edits did what was asked for, and what else they did.

    Args:
        pairs: the edits.
        found: from `measured_edits`.
        others: features of other real pictures, by extractor.
        judge: name of the classifier.
        seed: of the intervals.
    """
    results = [*_confidences(pairs, found, judge, seed), *_likeness(found, seed), *_identities(found, others, seed)]
    note = (
        "Conf is a classifier's probability of the finding, or of its absence where it was to go; its floor is that of "
        "the unedited pictures. The other numbers say what the edit kept. Identity is how often an edited picture is "
        "nearest to its own original, among the other originals and the real pictures; it also is how often a patient "
        "could be found again from an edited picture. Similarity of features is CLIP-I where the extractor is a CLIP."
    )
    return Section("Do edits do what was asked, and nothing else?", note, results)


def _confidences(
    pairs: Sequence[EditPair], found: dict[str, np.ndarray], judge: str, seed: int
) -> Iterator[MetricResult]:
    rows = [
        (wanted, *(float(found[f"{when} score {finding}"][index]) for when in ("before", "after")))
        for index, pair in enumerate(pairs)
        for wanted, findings in ((True, pair.come), (False, pair.go))
        for finding in findings
        if f"after score {finding}" in found
    ]
    if not rows:
        return
    wanted, was, now = (np.array(column) for column in zip(*rows, strict=True))
    groups = {"": np.ones(len(rows), bool), ", added": wanted, ", taken away": ~wanted}
    for of, chosen in groups.items():
        if chosen.any():
            before, after = (np.where(wanted, p, 1 - p)[chosen] for p in (was, now))
            conf = mean_result(f"Conf{of}", after, "higher", seed)
            yield replace(conf, extractor=judge, floor=float(before.mean()))
            moved = (after > before).astype(float)
            yield replace(mean_result(f"moves as asked{of}", moved, "higher", seed), extractor=judge)


def _likeness(found: dict[str, np.ndarray], seed: int) -> Iterator[MetricResult]:
    higher = ("SSIM", "MS-SSIM", "IoU of lungs", "share of change inside")
    for name in (*higher, "largest change outside"):
        values = found[name][~np.isnan(found[name])]
        if len(values):
            yield mean_result(name, values, "higher" if name in higher else "lower", seed)
    for name in [n for n in found if n.startswith("perceptual distance ")]:
        result = mean_result("perceptual distance", found[name], "lower", seed)
        yield replace(result, extractor=name.removeprefix("perceptual distance "))
    if "LPIPS" in found:
        yield replace(mean_result("LPIPS", found["LPIPS"], "lower", seed), extractor=LPIPS)


def _identities(found: dict[str, np.ndarray], others: dict[str, np.ndarray], seed: int) -> Iterator[MetricResult]:
    for name, real in others.items():
        before, after = (found[f"{when} features {name}"] for when in ("before", "after"))
        alike = (before * after).sum(axis=1) / (np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1))
        yield replace(mean_result("similarity of features", alike, "higher", seed), extractor=name)
        nearest = nearest_neighbours(after, np.concatenate([before, real]))[1]
        own = (nearest == np.arange(len(after))).astype(float)
        yield replace(mean_result("identity", own, "higher", seed), extractor=name)


class _Worker:
    def __init__(self, output: Path, measures: EditMeasures) -> None:
        self.output, self.measures = output, measures

    def __call__(self, items: Sequence[tuple[str, Sequence[EditPair]]]) -> Iterator[Done]:
        for key, part in items:
            before, after, region = (np.stack(column) for column in zip(*map(_read, part), strict=True))
            file = str(Path("features") / f"{key}.npz")
            with atomic_path(self.output / file) as temporary, open(temporary, "wb") as stream:
                np.savez(stream, **self.measures(before, after, region))
            yield Done({"file": file}, files=(file,))


def _read(pair: EditPair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both pictures (SIDE, SIDE) and the region, which is empty where it is not known."""
    before, after = (read_radiograph(path).pixels for path in (pair.before, pair.after))
    if before.shape != after.shape:
        raise ImageError(f"{pair.after} is {after.shape}, its original {before.shape}; both need one size")
    region = read_region(pair.region, before.shape, None) if pair.region else np.zeros(before.shape, bool)
    return square(before, SIDE), square(after, SIDE), square(region.astype(np.float32), SIDE) > 0


def _key(part: Sequence[EditPair], measures: EditMeasures) -> str:
    digest = hashlib.sha256(
        f"{[e.name for e in measures.extractors]} {measures.judge.name} {measures.segmenter_name} "
        f"{'' if measures.lpips is None else measures.lpips.name}".encode()
    )
    for pair in part:
        files = (pair.before, pair.after, pair.region)
        digest.update(f"{[sha256(file) for file in files if file]} {pair.come} {pair.go}\n".encode())
    return digest.hexdigest()[:20]


def _multi_scale(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Structural similarity at five scales (Wang et al. 2003), window and sigma as in `ssim`."""
    metric = MultiScaleSSIMMetric(spatial_dims=2, data_range=1.0, kernel_size=WINDOW, kernel_sigma=SIGMA)
    return metric(*(torch.from_numpy(p)[:, None] for p in (before, after))).flatten().numpy()
