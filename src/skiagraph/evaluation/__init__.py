"""Metrics as functions of arrays or features, each with a value, an interval, n and a direction."""

from skiagraph.evaluation.classification import auroc
from skiagraph.evaluation.distances import frechet_distance, kernel_distance
from skiagraph.evaluation.memorisation import memorisation, nearest_neighbours
from skiagraph.evaluation.result import MetricResult, bootstrap

__all__ = [
    "MetricResult",
    "auroc",
    "bootstrap",
    "frechet_distance",
    "kernel_distance",
    "memorisation",
    "nearest_neighbours",
]
