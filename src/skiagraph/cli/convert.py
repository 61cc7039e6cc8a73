"""skiagraph convert: single files and LoRA weights to model folders."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from skiagraph.cli.options import Dtype, Output, Overwrite


def run(
    model: Annotated[str, typer.Argument(help="A single safetensors file, a model folder, or a Hub id.")],
    output: Output,
    like: Annotated[
        str | None,
        typer.Option(help="Folder or Hub id of a model of the same kind, whose configuration a single file takes."),
    ] = None,
    lora: Annotated[str | None, typer.Option(help="Safetensors file of LoRA weights to add.")] = None,
    lora_scale: Annotated[float, typer.Option(help="How much of them.")] = 1.0,
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights that are written.")] = Dtype.float16,
    overwrite: Overwrite = False,
) -> dict[str, Any]:
    """Make a model folder, OUTPUT/model, of a single-file Stable Diffusion or of a model and a LoRA.

    Example: skiagraph convert roentgen.safetensors --like stable-diffusion-v1-5/stable-diffusion-v1-5 -o runs/roentgen
    """
    from skiagraph.engine.convert import ConvertConfig, convert

    config = ConvertConfig(model=model, like=like, lora=lora, lora_scale=lora_scale, dtype=dtype.value)
    manifest = convert(config, output, overwrite=overwrite)
    typer.echo(f"model folder {output / 'model'}; give it to --model")
    return manifest
