"""Models by Hub id: found in the machine's Hub cache, and downloaded to it only where that is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from skiagraph.errors import ModelError, one_line

LEFT_OUT = ("safety_checker/",)
"""Parts of published pipelines that nothing here uses."""

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


def hub_folder(hub_id: str) -> Path:
    """Folder of a model in the Hub cache; within `downloads`, it is brought there first where it is missing.

    Raises:
        ModelError: it is not here and may not be downloaded, or the Hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except LocalEntryNotFoundError as error:
        if not _ALLOWED.get():
            raise ModelError(
                f"model {hub_id!r} is neither a folder nor in this machine's Hub cache; --allow-download fetches it "
                "from the Hub"
            ) from error
    return download(hub_id)


def download(hub_id: str) -> Path:
    """Bring a model from the Hub to the machine's cache, and return its folder there: safetensors weights alone.

    Raises:
        ModelError: the Hub cannot be reached, has no such model or wants a login, or the model has no safetensors file.
    """
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        names = HfApi().list_repo_files(hub_id)
        chosen = wanted_files(names)
        if not any(name.endswith(".safetensors") for name in chosen):
            raise ModelError(f"{hub_id} has no weights in safetensors on the Hub; only those are loaded")
        return Path(snapshot_download(hub_id, allow_patterns=chosen))
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        raise ModelError(f"{hub_id} does not come from the Hub: {one_line(error)}") from error


def wanted_files(names: Sequence[str]) -> list[str]:
    """Files of a published model that its folder needs: configuration, and each part's safetensors in one precision.

    Of a pipeline, weights at the top are single-file copies of the same and are left out; of a part with several
    variants the plain one is taken, else fp16's.
    """
    kept = [name for name in names if not name.startswith(LEFT_OUT)]
    pipeline = "model_index.json" in kept
    weights = [n for n in kept if n.endswith(".safetensors") and ("/" in n) == pipeline]
    plain = {Path(n).parent for n in weights if not _variant(n)}
    chosen = [n for n in weights if not _variant(n) or (_variant(n) == "fp16" and Path(n).parent not in plain)]
    return sorted([n for n in kept if n.endswith(READ)] + chosen)


def _variant(name: str) -> str:
    """The precision or kind that a weight file's name has in its middle, as in `model.fp16.safetensors`."""
    parts = Path(name).name.split(".")
    middle = parts[1] if len(parts) > 2 else ""
    return middle.split("-")[0]
