"""Metrics as functions of arrays or features, each with a value, an interval, n and a direction."""

from skiagraph.evaluation.classification import auroc
from skiagraph.evaluation.copies import CopyCheck, nearest_neighbours
from skiagraph.evaluation.distances import frechet_distance, frechet_radiomics_distance, kernel_distance
from skiagraph.evaluation.overlap import dice, hd95, iou, pooled_iou
from skiagraph.evaluation.patches import sliced_wasserstein
from skiagraph.evaluation.result import MetricResult, bootstrap
from skiagraph.evaluation.similarity import ssim
from skiagraph.evaluation.statistics import grouped_mean, holm, paired_difference
from skiagraph.evaluation.two_sample import two_sample_test

__all__ = [
    "CopyCheck",
    "MetricResult",
    "auroc",
    "bootstrap",
    "dice",
    "frechet_distance",
    "frechet_radiomics_distance",
    "grouped_mean",
    "hd95",
    "holm",
    "iou",
    "kernel_distance",
    "nearest_neighbours",
    "paired_difference",
    "pooled_iou",
    "sliced_wasserstein",
    "ssim",
    "two_sample_test",
]
