"""Sheets of real and generated radiographs in random order, for a person to tell apart, and the key to them.

    python benchmarks/blind_sheets.py out/quality/images --data DIR -o out/blind --n 100
    python benchmarks/blind_sheets.py out/quality/images -o out/blind --answers 3,7,12   # taken for generated

The generated ones are of a run of text_to_image_quality.py; the real ones are of held-out patients with the same mix of
label rows. Answers are scored with an interval; .5 is chance.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from skiagraph.data.chest.captions import record_prompt
from skiagraph.data.datasets import load_records
from skiagraph.data.images import read_radiograph, square
from skiagraph.evaluation import bootstrap
from skiagraph.files import write_json

DATASETS = ("kermany_pneumonia", "nih_chestxray14", "nih_chestxray14_more", "montgomery")
COLUMNS, ROWS, SIDE = 5, 5, 256


def main() -> None:
    """Write sheets and key, or score answers."""
    args = _arguments()
    key_path = args.output / "key.json"
    if args.answers is not None:
        return _score(json.loads(key_path.read_text()), {int(a) for a in args.answers.split(",") if a})
    rng = random.Random(args.seed)
    rows = json.loads((args.images / "manifest.json").read_text())["images"]
    chosen = rng.sample(rows, args.n)
    pictures = [(False, np.asarray(Image.open(args.images / r["file"]), np.float32) / 255) for r in chosen]
    tests = load_records(DATASETS, args.data, splits=["test"])
    rng.shuffle(tests)
    for row in chosen:
        record = next(r for r in tests if r.labels and record_prompt(r) == row["report"])
        tests.remove(record)
        pictures.append((True, square(read_radiograph(record.path).pixels, SIDE, fit="crop")))
    rng.shuffle(pictures)
    args.output.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(pictures), COLUMNS * ROWS):
        _sheet(args.output / f"sheet-{start:03d}.png", pictures[start : start + COLUMNS * ROWS], start)
    write_json(key_path, [real for real, _ in pictures])
    return None


def _sheet(path: Path, pictures: list[tuple[bool, np.ndarray]], first: int) -> None:
    sheet = Image.new("L", (COLUMNS * SIDE, ROWS * SIDE))
    draw = ImageDraw.Draw(sheet)
    for place, (_, pixels) in enumerate(pictures):
        x, y = place % COLUMNS * SIDE, place // COLUMNS * SIDE
        sheet.paste(Image.fromarray(np.round(pixels * 255).astype(np.uint8)), (x, y))
        draw.rectangle((x, y, x + 26, y + 12), fill=0)
        draw.text((x + 2, y), str(first + place), fill=255)
    sheet.save(path)


def _score(key: list[bool], taken: set[int]) -> None:
    right = np.array([(number in taken) != real for number, real in enumerate(key)], float)
    low, high = bootstrap(lambda a: float(a.mean()), right)
    told = sum(not real for number, real in enumerate(key) if number in taken)
    print(f"right {right.mean():.2f} ({low:.2f} to {high:.2f}) of {len(key)}")
    print(f"generated ones told: {told} of {key.count(False)}; real ones taken for generated: {len(taken) - told}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of generated images with their manifest")
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/blind"))
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", help="numbers of the pictures taken for generated, joined by commas")
    return parser.parse_args()


if __name__ == "__main__":
    main()
