"""skiagraph: reports to chest radiographs, with masks, edits and evidence."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AffinityNet": "skiagraph.models.affinity_net",
    "FindingClassifier": "skiagraph.models.finding_classifier",
    "LatentSegmenter": "skiagraph.models.latent_segmenter",
    "Segmenter": "skiagraph.models.segmenter",
    "SmallAutoencoderKL": "skiagraph.models.autoencoder",
    "TextToImagePipeline": "skiagraph.pipelines.text_to_image",
    "UViT2DModel": "skiagraph.models.uvit",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Load public classes on first use; diffusers finds the components of a saved pipeline this way."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
