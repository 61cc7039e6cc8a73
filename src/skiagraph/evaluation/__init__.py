"""Metrics as functions of arrays or features, each with a value, an interval, n and a direction."""

from skiagraph.evaluation.classification import auroc
from skiagraph.evaluation.distances import frechet_distance, kernel_distance
from skiagraph.evaluation.memorisation import memorisation, nearest_neighbours
from skiagraph.evaluation.overlap import dice, hd95, iou, pooled_iou
from skiagraph.evaluation.result import MetricResult, bootstrap
from skiagraph.evaluation.similarity import ssim

__all__ = [
    "MetricResult",
    "auroc",
    "bootstrap",
    "dice",
    "frechet_distance",
    "hd95",
    "iou",
    "kernel_distance",
    "memorisation",
    "nearest_neighbours",
    "pooled_iou",
    "ssim",
]
