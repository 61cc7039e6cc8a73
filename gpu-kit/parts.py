"""A folder as files of a limited size, and back: archives that travel in parts. Needs nothing but Python."""

from __future__ import annotations

import io
import lzma
import shutil
import tarfile
from contextlib import nullcontext
from pathlib import Path

MEGA = 1_000_000


class _Parts(io.RawIOBase):
    """Writes one stream into PREFIX.000.part, PREFIX.001.part and so on, `size` bytes each."""

    def __init__(self, folder: Path, prefix: str, size: int) -> None:
        self.folder, self.prefix, self.size = folder, prefix, size
        self.paths: list[Path] = []
        self.stream: io.BufferedWriter | None = None
        self.room = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            if self.room == 0:
                self._next()
            written = self.stream.write(left[: self.room])
            self.room -= written
            left = left[written:]
        return len(data)

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
        super().close()

    def _next(self) -> None:
        if self.stream is not None:
            self.stream.close()
        self.paths.append(self.folder / f"{self.prefix}.{len(self.paths):03d}.part")
        self.stream, self.room = open(self.paths[-1], "wb"), self.size  # noqa: SIM115


def split(folder: Path, output: Path, prefix: str, megabytes: float, *, compress: bool) -> list[Path]:
    """Archive what is in `folder` as parts of at most so many million bytes; old parts of that prefix go."""
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob(f"{prefix}.*.part"):
        old.unlink()
    with (
        _Parts(output, prefix, int(megabytes * MEGA)) as stream,
        lzma.open(stream, "wb", preset=2) if compress else nullcontext(stream) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        archive.add(folder, arcname=".")
    count = len(stream.paths)
    return [path.rename(path.with_suffix(f".of-{count:03d}.part")) for path in stream.paths]


def join(parts: list[Path], folder: Path) -> None:
    """Unpack an archive's parts into `folder`, whole or not at all.

    Raises:
        SystemExit: no parts, some missing, or a truncated archive.
    """
    names = sorted(p.name for p in parts)
    count = int(names[0].split(".of-")[1].split(".")[0]) if names else 0
    if not count or [int(n.split(".")[-3]) for n in names] != list(range(count)):
        raise SystemExit(f"{len(names)} of {count or 'some'} parts are here ({', '.join(names)}); copy the others")
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    whole = temporary.with_suffix(".tar")
    whole.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(whole, "wb") as stream:
            for part in sorted(parts):
                stream.write(part.read_bytes())
        with tarfile.open(whole) as archive:
            archive.extractall(temporary, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise SystemExit(f"the parts of {folder.name} do not unpack ({error}); copy them again") from error
    finally:
        whole.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
