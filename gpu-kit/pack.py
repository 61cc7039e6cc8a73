"""Pack what a GPU machine without any network needs to train a text-to-image recipe, as parts of a limited size.

    python gpu-kit/pack.py recipes/shipped-text-to-image-gpu.yaml -o out/gpu-kit --part-mb 60

`data` is an archive of the recipe's images at its size, in their datasets' own layout; `kit` has code, the networks
that the recipe names and wheels for the machine's Python.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from parts import MEGA, split
from skiagraph.data.datasets import data_root
from skiagraph.data.images import read_radiograph, square
from skiagraph.files import given_or_shipped
from skiagraph.models.registry import model_folder
from skiagraph.training.images import records_of
from skiagraph.training.recipe import TextToImageRecipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]

WHEELS = (
    "annotated-types",
    "diffusers",
    "importlib-metadata",
    "monai",
    "pydantic",
    "pydicom",
    "typing-inspection",
    "zipp",
)
"""What the package needs and machines with torch and transformers often lack; pydantic's own core is added."""

QUALITIES = (95, 92, 90, 87, 85, 80, 75, 70)
"""Of WebP, tried from the best."""


def main() -> None:
    """Write the parts and say what they hold."""
    args = _arguments()
    recipe = load_recipe(args.recipe)
    if not isinstance(recipe, TextToImageRecipe):
        raise SystemExit(f"{args.recipe} is a {recipe.task} recipe; the kit trains text_to_image")
    with tempfile.TemporaryDirectory() as folder:
        data, kit = Path(folder) / "data", Path(folder) / "kit"
        quality = pack_data(recipe, data, args.data_mb)
        pack_code(given_or_shipped(args.recipe), kit)
        shutil.copytree(model_folder(recipe.autoencoder), kit / "networks/autoencoder")
        if recipe.start_from:
            shutil.copytree(model_folder(recipe.start_from), kit / "networks/start_from")
        if not args.no_wheels:
            download_wheels(kit / "wheels", args.python, args.wheel)
        args.output.mkdir(parents=True, exist_ok=True)
        parts = split(data, args.output, "data", args.part_mb, compress=False)
        parts += split(kit, args.output, "kit", args.part_mb, compress=True)
    for name in ("run", "train.py", "parts.py"):
        shutil.copy(ROOT / "gpu-kit" / name, args.output / name)
    total = sum(p.stat().st_size for p in parts) / MEGA
    print(f"{len(parts)} parts, {total:.1f} MB, images as WebP of quality {quality}, in {args.output}")


def pack_data(recipe: TextToImageRecipe, output: Path, megabytes: float) -> int:
    """Write the training and validation images and their tables; returns the quality that fits.

    Raises:
        SystemExit: not even the lowest quality fits.
    """
    records = [r for split_name in ("train", "val") for r in records_of(recipe, split_name)]
    pictures = []
    for record in track(records, "reading images", transient=True):
        pixels = square(read_radiograph(record.path).pixels, recipe.data.image_size, fit=recipe.data.fit)
        pictures.append(np.round(pixels * 255).astype(np.uint8))
    quality = _fitting_quality(pictures, megabytes * MEGA * 0.97)
    root = data_root(recipe.data.root)
    names: dict[str, set[str]] = defaultdict(set)
    for record, picture in zip(records, pictures, strict=True):
        place = record.path.relative_to(root)
        names[place.parts[0]].add(place.name)
        target = output / place
        target.parent.mkdir(parents=True, exist_ok=True)
        # The name stays, whatever it ends in: pictures are told by their content.
        target.write_bytes(_webp(picture, quality))
    for dataset, kept in names.items():
        _copy_tables(root / dataset, output / dataset, kept)
    return quality


def pack_code(recipe: Path, output: Path) -> None:
    """The package without weights but those that find lungs, and the recipe as recipe.yaml."""
    package = ROOT / "src/skiagraph"
    ignore = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(package, output / "src/skiagraph", ignore=ignore)
    shutil.copytree(package / "weights/lung-segmenter", output / "src/skiagraph/weights/lung-segmenter")
    shutil.copy(recipe, output / "recipe.yaml")


def download_wheels(output: Path, python: str, more: list[str]) -> None:
    """Wheels for x86-64 Linux and that Python, each alone: what it needs is on the machine or in the list."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", str(output)]
    target = ["--python-version", python, "--implementation", "cp"]
    target += [f"--platform=manylinux_2_{n}_x86_64" for n in (28, 27, 17)] + ["--platform=manylinux2014_x86_64"]
    subprocess.run([*pip, *target, *WHEELS, *more], check=True)
    pydantic = next(output.glob("pydantic-*.whl"))
    subprocess.run([*pip, *target, _core_of(pydantic)], check=True)


def _core_of(pydantic: Path) -> str:
    import zipfile

    with zipfile.ZipFile(pydantic) as archive:
        name = next(n for n in archive.namelist() if n.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("Requires-Dist: pydantic-core"))


def _fitting_quality(pictures: list[np.ndarray], most: float) -> int:
    sample = pictures[:: max(1, len(pictures) // 200)]
    for quality in QUALITIES:
        if sum(len(_webp(p, quality)) for p in sample) / len(sample) * len(pictures) < most:
            return quality
    raise SystemExit(
        f"{len(pictures)} images do not fit into {most / MEGA:.0f} MB; raise --data-mb or shrink the recipe"
    )


def _webp(picture: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _copy_tables(source: Path, target: Path, names: set[str]) -> None:
    """The dataset's CSV files; of those that list images, the rows of the packed ones."""
    for path in sorted(source.glob("*.csv")):
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            rows = list(csv.DictReader(stream))
        if rows and "file" in rows[0]:
            rows = [r for r in rows if Path(r["file"]).name in names]
        with open(target / path.name, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out/gpu-kit")
    parser.add_argument("--part-mb", type=float, default=60, help="most million bytes in a part")
    parser.add_argument("--data-mb", type=float, default=50, help="most million bytes of images")
    parser.add_argument("--python", default="3.12", help="the machine's Python")
    parser.add_argument("--wheel", nargs="*", default=[], help="further packages that the machine lacks")
    parser.add_argument("--no-wheels", action="store_true", help="the machine has everything")
    return parser.parse_args()


if __name__ == "__main__":
    main()
