"""Models by Hub id: found in the machine's Hub cache, and downloaded to it only where that is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from skiagraph.errors import ModelError, one_line

LEFT_OUT = ("safety_checker/",)
"""Parts of published pipelines that nothing here uses."""

CONFIGURATIONS = ("model_index.json", "config.json", "open_clip_config.json")
"""Files of which every model has one at the top."""

READ = (".json", ".txt", ".model", ".md")
"""Endings of the small files that a model folder needs beside its weights."""

_ALLOWED = ContextVar("downloads", default=False)


@contextmanager
def downloads() -> Iterator[None]:
    """Within it, models that are named by their Hub id and are not here are downloaded."""
    token = _ALLOWED.set(True)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hub id, "owner/name"."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def hub_folder(hub_id: str, *, weights: bool = True) -> Path:
    """Folder of a model in the Hub cache; within `downloads`, it is brought there first where it is missing.

    Args:
        hub_id: "owner/name".
        weights: whether they must be there too, or the configuration is enough.

    Raises:
        ModelError: it is not here and may not be downloaded, or the Hub does not give it.
    """
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(hub_id, name) for name in CONFIGURATIONS)
    here = next((Path(path).parent for path in found if isinstance(path, str)), None)
    if here and (not weights or any(here.rglob("*.safetensors"))):
        return here
    if not _ALLOWED.get():
        raise ModelError(
            f"model {hub_id!r} is neither a folder nor in this machine's Hub cache; --allow-download fetches it from "
            "the Hub"
        )
    return download(hub_id, weights=weights)


def download(hub_id: str, *, weights: bool = True) -> Path:
    """Bring a model from the Hub to the machine's cache, and return its folder there.

    Args:
        hub_id: "owner/name".
        weights: in safetensors, the only ones that are loaded; or the configuration alone.

    Raises:
        ModelError: the Hub cannot be reached, has no such model or wants a login, or the model has no safetensors file.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        chosen = wanted_files(HfApi().list_repo_files(hub_id), weights=weights)
        if weights and not any(name.endswith(".safetensors") for name in chosen):
            raise ModelError(f"{hub_id} has no weights in safetensors on the Hub; only those are loaded")
        return Path(snapshot_download(hub_id, allow_patterns=chosen))
    except ModelError:
        raise
    except Exception as error:  # the Hub's client raises those of whichever library it speaks through
        raise ModelError(f"{hub_id} does not come from the Hub: {one_line(error)}") from error


def wanted_files(names: Sequence[str], *, weights: bool = True) -> list[str]:
    """Files of a published model that its folder needs: configuration, and each part's safetensors in one precision.

    Of a pipeline, weights at the top are single-file copies of the same and are left out; of a part with several
    variants the plain one is taken, else fp16's.
    """
    kept = [name for name in names if not name.startswith(LEFT_OUT)]
    small = [name for name in kept if name.endswith(READ)]
    if not weights:
        return sorted(small)
    pipeline = "model_index.json" in kept
    files = [name for name in kept if name.endswith(".safetensors") and ("/" in name) == pipeline]
    plain = {Path(name).parent for name in files if not _variant(name)}
    chosen = [n for n in files if not _variant(n) or (_variant(n) == "fp16" and Path(n).parent not in plain)]
    return sorted(small + chosen)


def _variant(name: str) -> str:
    """What a weight file's name has in its middle, such as fp16 in `model.fp16.safetensors`; "" for none."""
    parts = Path(name).name.split(".")
    return parts[1].split("-")[0] if len(parts) > 2 else ""
