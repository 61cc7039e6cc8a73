"""skiagraph: reports to chest radiographs, with masks, edits and evidence."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AffinityNet": "models.affinity_net:AffinityNet",
    "AugmentConfig": "engine.augment:AugmentConfig",
    "ConvertConfig": "engine.convert:ConvertConfig",
    "EditConfig": "engine.edit:EditConfig",
    "EditSettings": "pipelines.counterfactual:EditSettings",
    "Enlarger": "models.enlarger:Enlarger",
    "EvaluateConfig": "engine.evaluate:EvaluateConfig",
    "FindingClassifier": "models.finding_classifier:FindingClassifier",
    "GenerateConfig": "engine.generate:GenerateConfig",
    "LatentSegmenter": "models.latent_segmenter:LatentSegmenter",
    "PairsConfig": "engine.pairs:PairsConfig",
    "StudyConfig": "engine.study:StudyConfig",
    "SegmentConfig": "engine.segment:SegmentConfig",
    "Segmenter": "models.segmenter:Segmenter",
    "SmallAutoencoderKL": "models.autoencoder:SmallAutoencoderKL",
    "TextToImagePipeline": "pipelines.text_to_image:TextToImagePipeline",
    "UViT2DModel": "models.uvit:UViT2DModel",
    "augment": "engine.augment:augment",
    "convert": "engine.convert:convert",
    "download": "models.hub:download",
    "edit": "engine.edit:edit",
    "edit_image": "pipelines.counterfactual:edit_image",
    "evaluate": "engine.evaluate:evaluate",
    "export_set": "engine.exchange:export_set",
    "generate": "engine.generate:generate",
    "import_set": "engine.exchange:import_set",
    "info": "engine.info:describe",
    "load_pipeline": "pipelines.published:load_pipeline",
    "load_recipe": "training.recipe:load_recipe",
    "pairs": "engine.pairs:make_pairs",
    "parse_report": "data.chest.reports:parse_report",
    "pull": "engine.archive:pull",
    "push": "engine.archive:push",
    "retrieve": "engine.retrieval:retrieve",
    "segment": "engine.segment:segment",
    "study": "engine.study:study",
    "train": "engine.train:train_recipe",
}
"""Public names, and where each is: every verb of the command line, what it is told, and the networks."""

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Load public names on first use; diffusers finds the components of a saved pipeline this way."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
