"""The run manifest: everything needed to say what made a file, and to make it again."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from skiagraph.errors import SkiagraphError
from skiagraph.files import write_json

PACKAGES = ("skiagraph", "torch", "diffusers", "transformers", "accelerate", "safetensors", "monai", "numpy")
FILE_NAME = "manifest.json"


def config_hash(config: dict[str, Any]) -> str:
    """Short hash that two runs share exactly if their configuration is equal."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def new_manifest(verb: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A manifest with the configuration, its hash, package versions, machine and git commit; `more` is added."""
    return {
        "verb": verb,
        "config": config,
        "config_hash": config_hash(config),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "git_commit": _git_commit(),
        **more,
    }


def open_manifest(
    output: Path, verb: str, config: dict[str, Any], *, extend: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """The manifest of an earlier run with the same configuration and weights in `output`, else a new one.

    What `extend` names in the configuration may differ from the earlier run's; the new value is taken.

    Raises:
        SkiagraphError: `output` holds the manifest of another run; nothing of it is touched.
    """
    path = output / FILE_NAME
    if not path.exists():
        return new_manifest(verb, config, **more)
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        same = earlier["verb"] == verb and _without(earlier["config"], extend) == _without(config, extend)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SkiagraphError(f"{path} is not a readable manifest; choose another --output") from error
    if not same:
        raise SkiagraphError(
            f"{output} holds another run ({FILE_NAME} differs); choose another --output, or --overwrite it"
        )
    if earlier.get("weights") != more.get("weights"):
        raise SkiagraphError(f"{output} was begun with other weights; choose another --output, or --overwrite it")
    return earlier | {"config": config, "config_hash": config_hash(config)}


def _without(config: dict[str, Any], names: Sequence[str]) -> str:
    return config_hash({name: value for name, value in config.items() if name not in names})


def save_manifest(output: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest.json` in the output folder, atomically."""
    write_json(output / FILE_NAME, manifest)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Commit of the checkout this package lies in; None for an installed package."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
