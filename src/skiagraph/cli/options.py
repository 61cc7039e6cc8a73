"""Options that every verb names alike."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[
    Path, typer.Option("-o", "--output", file_okay=False, help="Folder to write to, or a URL such as s3://bucket/run.")
]
Model = Annotated[str, typer.Option("--model", help="Name of a shipped model, a model folder, or a Hub id.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what another run left in the output folder.")]
Device = Annotated[
    str, typer.Option(help="Where networks run: auto (an accelerator where there is one), cpu, cuda, cuda:1 or mps.")
]


Workers = Annotated[
    int,
    typer.Option(min=0, help="Processes that work, each with a model of its own; 0 is one for each GPU. Same results."),
]
Address = Annotated[str | None, typer.Option(help="Ray cluster, such as head:6379; else the one here, or a new one.")]


class ExecutorKind(StrEnum):
    """Where several workers are."""

    processes = "processes"
    ray = "ray"


Executor = Annotated[
    ExecutorKind, typer.Option(help="Where they work: on this machine, or on a Ray cluster that shares the folders.")
]


class Dtype(StrEnum):
    """Precisions that networks run in; sampling itself is always float32."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
