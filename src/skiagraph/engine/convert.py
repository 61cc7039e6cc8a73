"""The conversion job: a single file or a model with a LoRA in, a model folder that every verb takes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline

from skiagraph.engine.job import open_run, plain
from skiagraph.errors import ModelError, one_line
from skiagraph.files import atomic_path, sha256, weight_hashes
from skiagraph.models.hub import hub_folder
from skiagraph.models.registry import USES, kind_of, loading, model_folder, require_kind, write_checksums
from skiagraph.pipelines.published import UNCHECKED, load_published
from skiagraph.progress import Listener, progress

KINDS = tuple(kind for kind in USES if kind.startswith("StableDiffusion"))
"""Classes of pipelines that diffusers reads from a single file, and puts a LoRA into."""


@dataclass(frozen=True)
class ConvertConfig:
    """What is converted.

    `model` is a single safetensors file, a model folder or a Hub id. `like` is a folder or Hub id of a model of the
    same kind, whose configuration a single file takes; its weights are not read. `lora` is a safetensors file of LoRA
    weights, which are added to the model's, times `lora_scale`.
    """

    model: str
    like: str | None = None
    lora: str | None = None
    lora_scale: float = 1.0
    dtype: str = "float16"


def convert(
    config: ConvertConfig, output: Path, *, overwrite: bool = False, listen: Listener = progress
) -> dict[str, Any]:
    """Write a model folder in diffusers' layout, `model`, to `output`, and a manifest.

    Args:
        config: what is converted.
        output: folder of `model` and `manifest.json`.
        overwrite: remove what another run left in `output`.
        listen: hears of progress.

    Returns:
        The manifest, with the sha256 of what was read and of the model's weights.

    Raises:
        ModelError: a file or model that is not there, of another kind or damaged, a file without `like`, a LoRA that
            does not fit, or nothing to do.
        SkiagraphError: `output` holds another run.
    """
    single = Path(config.model).suffix == ".safetensors"
    if not single and config.lora is None:
        raise ModelError(f"{config.model} is no single file and no LoRA is given, so there is nothing to convert")
    read = {name: _hash(name) for name in (config.model if single else None, config.lora) if name}
    if not single:
        read |= weight_hashes(model_folder(config.model))
    with open_run(output, "convert", plain(config), read=read, overwrite=overwrite, listen=listen) as run:
        with listen("converting", 1) as update:
            pipeline = _from_file(config) if single else _from_folder(config)
            if config.lora is not None:
                _add_lora(pipeline, Path(config.lora), config.lora_scale)
            run.claim("model")
            with atomic_path(output / "model") as folder:
                pipeline.save_pretrained(folder, safe_serialization=True)
                write_checksums(folder)
            update(1)
        return run.finish(model=weight_hashes(output / "model"))


def _hash(file: str) -> str:
    if not Path(file).is_file():
        raise ModelError(f"no file {file}")
    return sha256(Path(file))


def _from_folder(config: ConvertConfig) -> DiffusionPipeline:
    folder = model_folder(config.model)
    kind = require_kind(folder, *KINDS, purpose="take a LoRA")
    return load_published(folder, kind, getattr(torch, config.dtype))


def _from_file(config: ConvertConfig) -> DiffusionPipeline:
    """Diffusers renames the weights; what they are the weights of stands in the configuration of `like`."""
    if config.like is None:
        raise ModelError(
            f"{config.model} holds weights alone; name a folder or Hub id of a model of the same kind with --like, "
            "such as stable-diffusion-v1-5/stable-diffusion-v1-5"
        )
    folder = Path(config.like) if Path(config.like).is_dir() else hub_folder(config.like, weights=False)
    kind = kind_of(folder)
    if kind not in KINDS:
        raise ModelError(f"{config.like} is a {kind}; single files are read of {', '.join(KINDS)}")
    unchecked = UNCHECKED if "XL" not in kind else {}
    with loading(config.model):
        return getattr(diffusers, kind).from_single_file(
            config.model, config=str(folder), torch_dtype=getattr(torch, config.dtype), local_files_only=True,
            **unchecked,
        )  # fmt: skip


def _add_lora(pipeline: DiffusionPipeline, file: Path, scale: float) -> None:
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ModelError("LoRA weights need the package peft; pip install 'skiagraph[lora]'") from error
    try:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True)
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise ModelError(f"LoRA {file} does not fit {type(pipeline).__name__}: {one_line(error)}") from error
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
