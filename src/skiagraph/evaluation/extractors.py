"""What turns pictures into features for distances, by name: networks that come with us, and others by folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import fromarray

from skiagraph.errors import EvaluationError, ModelError, one_line
from skiagraph.evaluation.copies import THUMBNAIL, thumbnails
from skiagraph.evaluation.features import EXTRACTOR as CLASSIFIER
from skiagraph.evaluation.features import classify
from skiagraph.evaluation.imagenet import NETWORKS, ImageNetExtractor
from skiagraph.evaluation.vectors import blocks
from skiagraph.models.hub import hub_folder, is_hub_id
from skiagraph.models.registry import kind_of, load_component, shipped_folder

TORCHXRAYVISION = "torchxrayvision"
"""Its DenseNet of four public data sets, whose weights it fetches on first use."""

RADIOMICS = "radiomics"
"""Measures of texture by pyradiomics, those of the Frechet radiomics distance (Konz and Osuala et al. 2026)."""

OPEN_CLIP = "open_clip_config.json"
AUTOENCODERS = ("AutoencoderKL", "SmallAutoencoderKL")
PLACES = 8
TEXTS = 64
"""Texts that an encoder reads at a time."""

KNOWN = (CLASSIFIER, *(f"imagenet-{network}" for network in NETWORKS), THUMBNAIL, TORCHXRAYVISION, RADIOMICS)


class Extractor(Protocol):
    """Features float32 (n, d) of images float (n, 256, 256) in [0, 1]; `name` stands in metrics."""

    name: str

    def features(self, images: np.ndarray) -> np.ndarray: ...


@runtime_checkable
class DualEncoder(Extractor, Protocol):
    """An encoder of images and texts, such as a CLIP, whose features of both lie in one space."""

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features float32 (n, d) of texts, cut to what the encoder reads."""


def load_extractor(name: str) -> Extractor:
    """An extractor by one of the names `KNOWN`, or a transformers vision model's folder or Hub id, such as RAD-DINO's.

    A model that reads texts too, such as a CLIP, becomes a `DualEncoder`. An autoencoder's folder, such as a shipped
    model's `cxr-256/vae`, gives its latents; a `.pth` file is the Inception of published Frechet distances.

    Raises:
        EvaluationError: another name, a package that is missing, or a folder that does not load.
    """
    if name == CLASSIFIER:
        return _Classifier()
    if name == THUMBNAIL:
        return _Thumbnails()
    if name == TORCHXRAYVISION:
        return _TorchXRayVision()
    if name == RADIOMICS:
        return _Radiomics()
    if name.removeprefix("imagenet-") in NETWORKS:
        return ImageNetExtractor(name.removeprefix("imagenet-"))
    if is_autoencoder(name):
        return _Latents(name)
    if Path(name).suffix == ".pth" and Path(name).is_file():
        return _Inception(Path(name))
    if Path(name).is_dir() or is_hub_id(name):
        return _vision_model(Path(name) if Path(name).is_dir() else hub_folder(name), Path(name).name)
    raise EvaluationError(f"no extractor {name!r}; known: {', '.join(KNOWN)}, or a vision model's folder or Hub id")


class _Classifier:
    name = CLASSIFIER

    def __init__(self) -> None:
        self.network = load_component(CLASSIFIER)

    def features(self, images: np.ndarray) -> np.ndarray:
        return classify(self.network, images)[0]


class _Thumbnails:
    name = THUMBNAIL

    def features(self, images: np.ndarray) -> np.ndarray:
        return thumbnails(images)


class _TorchXRayVision:
    name = "torchxrayvision-densenet121-res224-all"

    def __init__(self) -> None:
        try:
            import torchxrayvision
        except ImportError as error:
            raise EvaluationError(f"torchxrayvision is not here ({error}); pip install torchxrayvision") from error
        self.network = torchxrayvision.models.DenseNet(weights="densenet121-res224-all").eval()

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        small = _resized(images, 224) * 2048 - 1024
        return torch.cat([self.network.features2(part) for part in small.split(32)]).numpy()


def is_autoencoder(name: str) -> bool:
    """Whether a folder, or a part of a shipped model, is an autoencoder of the kinds `AUTOENCODERS`."""
    folder = Path(name) if Path(name).is_dir() else shipped_folder(name)
    return (folder / "config.json").is_file() and kind_of(folder) in AUTOENCODERS


class _Latents:
    """An autoencoder's latents, the mean of what it says of a picture, brought to at most `PLACES` places a side."""

    def __init__(self, name: str) -> None:
        self.name = f"latents:{Path(name).name if Path(name).is_dir() else name}"
        self.network = load_component(name).eval()

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(np.ascontiguousarray(images, np.float32))[:, None] * 2 - 1
        parts = given.expand(-1, self.network.config.in_channels, -1, -1).split(8)
        return torch.cat([self._pooled(self.network.encode(part).latent_dist.mode()) for part in parts]).numpy()

    def _pooled(self, latents: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(latents, min(PLACES, latents.shape[-1])).flatten(1)


class _Inception:
    """The network of published Frechet distances, by torch-fidelity, from a file of its weights."""

    def __init__(self, weights: Path) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise EvaluationError(f"Inception needs torch-fidelity ({error}); pip install torch-fidelity") from error
        try:
            torch.load(weights, weights_only=True)  # the package itself would run what a pickle holds
            self.network = FeatureExtractorInceptionV3(
                "inception", ["2048"], feature_extractor_weights_path=str(weights)
            )
        except (OSError, RuntimeError, UnpicklingError) as error:
            raise EvaluationError(f"{weights} does not hold torch-fidelity's Inception ({one_line(error)})") from error
        self.name = "inception-v3-fid"

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(np.round(np.asarray(images) * 255).astype(np.uint8))[:, None].expand(-1, 3, -1, -1)
        return torch.cat([self.network(part)[0] for part in given.split(32)]).numpy()


class _Radiomics:
    """The measures that frd-score takes of a whole picture, by its own functions, which read files."""

    name = RADIOMICS

    def __init__(self) -> None:
        try:
            import radiomics
            from frd_score import frd
        except ImportError as error:
            raise EvaluationError(f"radiomics need frd-score and pyradiomics ({error}); pip install both") from error
        radiomics.setVerbosity(60)
        self.measure = partial(frd.process_image_mask_pair, feature_extractor=frd.get_feature_extractor("v1"))

    def features(self, images: np.ndarray) -> np.ndarray:
        with TemporaryDirectory() as folder:
            return np.array([self._of(image, Path(folder) / "picture.png") for image in images])

    def _of(self, image: np.ndarray, path: Path) -> list[float]:
        fromarray(np.round(image * 255).astype(np.uint8)).save(path)
        return self.measure((path, None))[0]


def _vision_model(folder: Path, name: str) -> Extractor:
    """What a folder of transformers or open_clip holds: an encoder of images, or one of images and texts."""
    if (folder / OPEN_CLIP).is_file():
        return _OpenClip(folder, name)
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(folder, local_files_only=True)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        network = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        both = hasattr(network, "get_text_features")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True) if both else None
    except (OSError, ValueError, KeyError) as error:
        raise EvaluationError(f"{folder} does not load as a vision model ({one_line(error)})") from error
    named = f"{config.model_type}:{name}"
    found = (network, settings, _side(settings, config, folder), named)
    return _VisionModel(*found) if tokenizer is None else _VisionTextModel(*found, tokenizer)


class _VisionModel:
    """An image encoder, whose settings say how pictures are normalised."""

    def __init__(self, network: torch.nn.Module, settings: dict, side: int, name: str) -> None:
        self.network, self.side, self.name = network, side, name
        self.mean, self.std = (
            torch.tensor(settings.get(key, fallback)).view(1, -1, 1, 1)
            for key, fallback in (("image_mean", [0.5] * 3), ("image_std", [0.5] * 3))
        )

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        return torch.cat([self._pooled(part) for part in _resized(images, self.side).split(16)]).numpy()

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        return (images.expand(-1, 3, -1, -1) - self.mean) / self.std

    def _pooled(self, images: torch.Tensor) -> torch.Tensor:
        pixels = self._normalised(images)
        if hasattr(self.network, "get_image_features"):
            found = self.network.get_image_features(pixel_values=pixels)
            return found if isinstance(found, torch.Tensor) else found.pooler_output
        found = self.network(pixel_values=pixels)
        pooled = getattr(found, "pooler_output", None)
        return (pooled if pooled is not None else found.last_hidden_state[:, 0]).flatten(1)


class _VisionTextModel(_VisionModel):
    """A transformers encoder of images and texts."""

    def __init__(self, network: torch.nn.Module, settings: dict, side: int, name: str, tokenizer: Any) -> None:
        super().__init__(network, settings, side, name)
        self.tokenizer = tokenizer
        config = getattr(network.config, "text_config", network.config)
        self.length = min(config.max_position_embeddings, tokenizer.model_max_length)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return torch.cat([self._of_texts(list(texts[rows])) for rows in blocks(len(texts), TEXTS)]).float().numpy()

    def _of_texts(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        found = self.network.get_text_features(**tokens)
        return found if isinstance(found, torch.Tensor) else found.pooler_output


class _OpenClip(_VisionModel):
    """A model as open_clip publishes it, such as BiomedCLIP."""

    def __init__(self, folder: Path, name: str) -> None:
        try:
            import open_clip
        except ImportError as error:
            raise EvaluationError(
                f"{folder} needs open_clip ({error}); pip install 'skiagraph[integrations]'"
            ) from error
        try:
            network, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
            self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise EvaluationError(f"{folder} does not load as a model of open_clip ({one_line(error)})") from error
        settings = open_clip.get_model_preprocess_cfg(network)
        size = settings["size"]
        ranges = {"image_mean": settings["mean"], "image_std": settings["std"]}
        super().__init__(network.eval(), ranges, size if isinstance(size, int) else size[0], f"open_clip:{name}")

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        parts = (self.tokenizer(list(texts[rows])) for rows in blocks(len(texts), TEXTS))
        return torch.cat([self.network.encode_text(part) for part in parts]).float().numpy()

    def _pooled(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.encode_image(self._normalised(images))


def _side(settings: dict, config: object, folder: Path) -> int:
    crop = settings.get("crop_size") or settings.get("size") or getattr(config, "image_size", None)
    side = next(iter(crop.values())) if isinstance(crop, dict) and crop else crop
    if not isinstance(side, int):
        raise ModelError(f"{folder} does not say the side of its pictures, in preprocessor_config.json or config.json")
    return side


def _resized(images: np.ndarray, side: int) -> torch.Tensor:
    """(n, 1, side, side) in [0, 1]."""
    given = torch.from_numpy(np.ascontiguousarray(images, np.float32))[:, None]
    return F.interpolate(given, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
