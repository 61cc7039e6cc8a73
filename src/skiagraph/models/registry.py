"""Models by shipped name, folder or Hub id: where their files are, whether they are whole, and how they load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from skiagraph.errors import ModelError, one_line
from skiagraph.files import atomic_path, weight_hashes
from skiagraph.models.hub import hub_folder, is_hub_id
from skiagraph.plugins import brought

if TYPE_CHECKING:
    import torch
    from diffusers.models.modeling_utils import ModelMixin

DEFAULT_MODEL = "cxr-256"
"""The text-to-image model that ships with the package."""

DEFAULT_SEGMENTER = "lung-segmenter"
"""The segmenter that ships with the package."""

COMPONENTS = {
    "AffinityNet": "skiagraph",
    "AutoencoderKL": "diffusers",
    "Enlarger": "skiagraph",
    "FindingClassifier": "skiagraph",
    "LatentSegmenter": "skiagraph",
    "Segmenter": "skiagraph",
    "SmallAutoencoderKL": "skiagraph",
    "UViT2DModel": "skiagraph",
}
"""Classes of networks that load by name, and the packages they are imported from when one is wanted."""

USES = {
    "TextToImagePipeline": ("generate", "pairs", "edit", "augment"),
    "StableDiffusionPipeline": ("generate", "pairs", "edit", "augment"),
    "StableDiffusionXLPipeline": ("generate", "pairs", "edit", "augment"),
    "PixArtAlphaPipeline": ("generate", "pairs", "edit", "augment"),
    "PixArtSigmaPipeline": ("generate", "pairs", "edit", "augment"),
    "SanaPipeline": ("generate", "pairs"),
    "StableDiffusionInpaintPipeline": ("augment",),
    "StableDiffusionXLInpaintPipeline": ("augment",),
    "Segmenter": ("segment",),
    "LatentSegmenter": ("segment",),
    "FindingClassifier": ("evaluate",),
}
"""Verbs that take a model of each class."""

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of published pipelines that nothing here loads: the checker of everyday photographs blackens radiographs."""

CHECKSUMS = "SHA256SUMS"
"""File in a model folder with a line `sha256  path` for each weight file, as the program sha256sum writes it."""


def shipped_models() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(p.name for p in _weights().iterdir() if p.is_dir()) if _weights().is_dir() else []


def shipped_folder(name: str) -> Path:
    """Where a shipped model or a part of one would be; there is nothing where it is not."""
    return _weights() / name


def model_folder(name_or_folder: str | Path) -> Path:
    """Folder of a shipped model, a local one, or one of the Hub by its id; its weight files are checked to be whole.

    Nothing is downloaded but within `skiagraph.models.hub.downloads`.

    Raises:
        ModelError: no such name or folder, no configuration in it, or a missing or truncated weight file.
    """
    name = str(name_or_folder)
    shipped, folder = shipped_folder(name), Path(name_or_folder).expanduser()
    if shipped.is_dir():
        folder = shipped
    elif folder.suffix == ".safetensors":
        raise ModelError(f"{folder} is a single file; `skiagraph convert` makes a model folder of it")
    elif not folder.is_dir():
        if not is_hub_id(name):
            raise ModelError(
                f"no model {name!r}: neither a folder nor one of the shipped {', '.join(shipped_models())}"
            )
        folder = hub_folder(name)
    check_weights(folder)
    return folder


def not_drawn(folder: Path) -> frozenset[str]:
    """Findings that a model's card says it does not draw: `not_drawn` in the head of its README.md."""
    import yaml

    card = folder / "README.md"
    head = card.read_text(encoding="utf-8").split("---")[1:2] if card.is_file() else []
    try:
        fields = yaml.safe_load(head[0]) if head else {}
    except yaml.YAMLError as error:
        raise ModelError(f"the head of {card} is not valid YAML ({one_line(error)})") from error
    return frozenset(fields.get("not_drawn", []) if isinstance(fields, dict) else [])


def check_weights(folder: Path) -> None:
    """Raise ModelError unless every component in a diffusers folder has configuration and whole safetensors files.

    Where the folder has `SHA256SUMS`, as shipped and trained models do, the files must also be the ones listed there.
    """
    index = folder / "model_index.json"
    parts = [folder]
    if index.is_file():
        entries = _json(index)
        parts = [folder / k for k, v in entries.items() if isinstance(v, list) and v[0] is not None and k not in UNUSED]
    elif not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds neither model_index.json nor config.json; a diffusers folder is needed")
    for part in parts:
        if not part.is_dir():
            raise ModelError(f"model folder {folder} lacks {part.name}; copy or install the model again")
        if (part / "config.json").is_file() and not list(part.glob("*.safetensors")):
            raise ModelError(f"{part} has no weight file (*.safetensors); copy or install the model again")
        for weights in part.glob("*.safetensors"):
            _check_whole(weights)
    if (folder / CHECKSUMS).is_file():
        _check_sums(folder)


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` of a model folder's weight files, which `check_weights` compares from then on."""
    lines = [f"{digest}  {name}\n" for name, digest in weight_hashes(folder).items()]
    with atomic_path(folder / CHECKSUMS) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def kind_of(folder: Path) -> str | None:
    """Name of the class of the pipeline or network that a folder of `model_folder` holds."""
    index = folder / "model_index.json"
    return _json(index if index.is_file() else folder / "config.json").get("_class_name")


def require_kind(folder: Path, *kinds: str, purpose: str) -> str:
    """Name of the class that a folder of `model_folder` holds, which must be one of `kinds`, for they can do `purpose`.

    Raises:
        ModelError: another class; the message says what such a model is for.
    """
    kind = kind_of(folder)
    if kind not in kinds:
        verbs = "`, `".join(USES.get(kind, ()))
        advice = f"it is for `skiagraph {verbs}`" if verbs else f"needed: {', '.join(sorted(kinds))}"
        raise ModelError(f"model {folder} is a {kind}, which cannot {purpose}; {advice}")
    return kind


def load_component(name_or_folder: str | Path, dtype: torch.dtype | None = None, *, device: str = "cpu") -> ModelMixin:
    """One network from a folder whose `config.json` names its class.

    Args:
        name_or_folder: of the model.
        dtype: of its weights; float32 where None.
        device: where it is to run.

    Raises:
        ModelError: as `model_folder`, a class that is none of `COMPONENTS` nor an entry point, or no such device.
    """
    folder = model_folder(name_or_folder)
    cls = _network_class(folder)
    import torch

    from skiagraph.devices import usable_device

    place = usable_device(device)

    with loading(folder):
        network = cls.from_pretrained(
            folder, torch_dtype=dtype or torch.float32, use_safetensors=True, local_files_only=True
        )
    return network.to(place)


def _network_class(folder: Path) -> type[ModelMixin]:
    """The class that a folder names; other packages' entry points are read only where it is none of `COMPONENTS`."""
    kind = kind_of(folder)
    if kind in COMPONENTS:
        return getattr(import_module(COMPONENTS[kind]), kind)
    others = brought("skiagraph.models")
    return others[require_kind(folder, *COMPONENTS, *others, purpose="be loaded as one network")].load()


@contextmanager
def loading(folder: str | Path) -> Iterator[None]:
    """What diffusers raises on missing and damaged files, as a ModelError that names the folder."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise ModelError(f"{folder} does not load: {one_line(error)}") from error


def _weights() -> Path:
    return Path(str(files("skiagraph"))) / "weights"


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); copy or install the model again") from error


def _check_sums(folder: Path) -> None:
    listed = [line.split(maxsplit=1) for line in (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()]
    found = weight_hashes(folder)
    for digest, name in listed:
        if found.get(name) != digest:
            raise ModelError(
                f"weight file {folder / name} is damaged: its sha256 is not the one in {CHECKSUMS}; copy or install "
                f"the model again, or remove {CHECKSUMS} if the weights were changed on purpose"
            )


def _check_whole(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"weight file {path} is truncated or damaged ({error}); copy or install the model again"
        ) from error
