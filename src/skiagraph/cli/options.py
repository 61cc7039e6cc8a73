"""Options that every verb names alike."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option("-o", "--output", file_okay=False, help="Folder to write to.")]
Model = Annotated[str, typer.Option("--model", help="Name of a shipped model, or a model folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what another run left in the output folder.")]
Device = Annotated[str, typer.Option(help="Torch device, such as cpu or cuda.")]


class Dtype(StrEnum):
    """Precisions that networks run in; sampling itself is always float32."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
