"""Options that every verb names alike."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option("-o", "--output", file_okay=False, help="Folder to write to.")]
Model = Annotated[str, typer.Option("--model", help="Name of a shipped model, or a model folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what another run left in the output folder.")]
Device = Annotated[
    str, typer.Option(help="Where networks run: auto (an accelerator where there is one), cpu, cuda, cuda:1 or mps.")
]


class Dtype(StrEnum):
    """Precisions that networks run in; sampling itself is always float32."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
