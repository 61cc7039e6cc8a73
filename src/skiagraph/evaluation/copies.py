"""Are samples copies of training images? And would this check have noticed if they were?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

from skiagraph.errors import EvaluationError
from skiagraph.evaluation.result import MetricResult, bootstrap, features_of
from skiagraph.evaluation.vectors import blocks, unit

Images = np.ndarray

THUMBNAIL = "pixels-32"
"""Extractor name of `thumbnails`."""

ALTERATIONS: Mapping[str, Callable[[Images, np.random.Generator], Images]] = {
    "noise of 0.05": lambda x, rng: np.clip(x + 0.05 * rng.standard_normal(x.shape), 0, 1),
    "shifted by 4 %": lambda x, _: ndimage.shift(
        x, (0, *(round(0.04 * s) for s in x.shape[1:])), order=0, mode="nearest"
    ),
    "zoomed by 6 %": lambda x, _: _zoomed(x, 1.06),
    "mirrored": lambda x, _: x[..., ::-1],
    "contrast": lambda x, _: np.clip((x - 0.5) * 0.8 + 0.55, 0, 1),
}
"""What a copy may look like, by name: images (n, H, W) in [0, 1] to others of the same shape."""


def nearest_neighbours(query: np.ndarray, bank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine similarity (n,) and index (n,) of the nearest of `bank` (m, d) for each of `query` (n, d)."""
    others, best, index = unit(bank).T, [], []
    for rows in blocks(len(query)):
        similarity = unit(query[rows]) @ others
        index.append(similarity.argmax(axis=1))
        best.append(similarity.max(axis=1))
    return np.concatenate(best), np.concatenate(index)


def thumbnails(images: Images, side: int = 32) -> np.ndarray:
    """Small pictures as features, float32 (n, side^2), each of mean 0: a copy's plan survives what changes its texture.

    Args:
        images: (n, H, W), sides multiples of `side`.
        side: of the small pictures.
    """
    n, height, width = np.shape(images)
    small = np.asarray(images, np.float32).reshape(n, side, height // side, side, width // side).mean(axis=(2, 4))
    flat = small.reshape(n, -1)
    return flat - flat.mean(axis=1, keepdims=True)


class CopyCheck:
    """Is a picture nearer to the training set than a fresh patient's picture would be, beside how near it is to others?

    A picture's score is (s_train - s_others) / spread: how much more similar its nearest training image is than its
    nearest held-out one, over the standard deviation of its similarities to all held-out ones (cosine, of features
    minus the training set's mean). Generated pictures are often far from all real ones, which hides copies from a
    threshold on the similarity itself; gap and spread shrink together. The threshold is the `quantile` of the scores of
    held-out pictures, each against the other patients', so fresh pictures exceed it with a chance of 1 - quantile.

    Args:
        train: features (m, d) of the training images.
        holdout: features (k, d) of images of patients who are not in train.
        extractor: name of the feature extractor.
        train_groups: patient of each training row.
        holdout_groups: patient of each held-out row.
        quantile: of the held-out scores that is the threshold.

    Raises:
        EvaluationError: a patient on both sides, or a single held-out patient.
    """

    def __init__(
        self, train: np.ndarray, holdout: np.ndarray, *, extractor: str, train_groups: np.ndarray,
        holdout_groups: np.ndarray, quantile: float = 0.95,
    ) -> None:  # fmt: skip
        both = set(train_groups.tolist()) & set(holdout_groups.tolist())
        if both:
            raise EvaluationError(
                f"{len(both)} patients are in train and holdout, such as {min(both)}; split by patient"
            )
        if len(set(holdout_groups.tolist())) < 2:
            raise EvaluationError("one held-out patient has nobody to be compared with; hold out more")
        train, holdout = features_of("training", train), features_of("held-out", holdout)
        self.mean, self.extractor, self.quantile = train.mean(axis=0), extractor, quantile
        self.train, self.holdout = unit(train - self.mean), unit(holdout - self.mean)
        self.groups = holdout_groups
        self.threshold = float(np.quantile(self._gaps(self.holdout, holdout_groups), quantile))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Score (n,) of each picture from its features (n, d)."""
        return self._gaps(unit(features_of("picture", features) - self.mean))

    def share(self, synthetic: np.ndarray, planted: Mapping[str, np.ndarray] | None = None) -> MetricResult:
        """Share of pictures above the threshold; by chance it is 1 - quantile.

        `details` holds that chance, the threshold, each picture's score and nearest training index and, for features of
        `planted` copies by name, the share of them that is found: the power of the check.
        """
        scores = self.scores(synthetic)
        above = (scores > self.threshold).astype(float)
        low, high = bootstrap(lambda a: float(a.mean()), above)
        details = {
            "chance": 1 - self.quantile,
            "threshold": self.threshold,
            "scores": scores.tolist(),
            "nearest": nearest_neighbours(synthetic - self.mean, self.train)[1].tolist(),
            "found": {n: float((self.scores(f) > self.threshold).mean()) for n, f in (planted or {}).items()},
        }
        return MetricResult(
            "share of copies", float(above.mean()), low, high, len(above), "lower", extractor=self.extractor,
            details=details,
        )  # fmt: skip

    def _gaps(self, vectors: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
        """Scores of unit vectors (n, d); held-out pictures of a row's own group, if any, are not its neighbours."""
        return np.concatenate(
            [self._gap(vectors[rows], None if groups is None else groups[rows]) for rows in blocks(len(vectors))]
        )

    def _gap(self, vectors: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        to_train, to_others = (vectors @ self.train.T).max(axis=1), vectors @ self.holdout.T
        if groups is not None:
            to_others[groups[:, None] == self.groups] = np.nan
        return (to_train - np.nanmax(to_others, axis=1)) / np.nanstd(to_others, axis=1).clip(1e-9)


def _zoomed(images: Images, factor: float) -> Images:
    height, width = images.shape[1:]
    larger = ndimage.zoom(images, (1, factor, factor), order=1)
    top, left = (larger.shape[1] - height) // 2, (larger.shape[2] - width) // 2
    return larger[:, top : top + height, left : left + width].clip(0, 1)
