"""Drawn thoraces that read as radiographs: for tests of the path of data, not of what a model learns."""

import csv

import numpy as np
from PIL import Image

SIDE = 64


def thorax(rng, side=SIDE):
    """(pixels uint8, lung mask uint8) of two dark lungs on a bright body, a little different each time."""
    y, x = np.mgrid[:side, :side] / side
    shift = rng.uniform(-0.03, 0.03)
    lungs = [((x - c - shift) / 0.16) ** 2 + ((y - 0.48) / 0.3) ** 2 < 1 for c in (0.28, 0.72)]
    pixels = np.where(lungs[0] | lungs[1], 0.25, 0.8) + rng.normal(0, 0.03, (side, side))
    return (pixels.clip(0, 1) * 255).astype(np.uint8), ((lungs[0] | lungs[1]) * 255).astype(np.uint8)


def dataset(root, name="phantoms", train=6, val=3):
    """Write `root/name` as a folder dataset with masks, labels and reports; returns `root`."""
    rng, folder = np.random.default_rng(0), root / name
    folder.mkdir(parents=True)
    rows = []
    for index in range(train + val):
        pixels, mask = thorax(rng)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        Image.fromarray(mask).save(folder / f"{index}-mask.png")
        rows.append(
            {
                "file": f"{index}.png", "patient": f"p{index}", "split": "train" if index < train else "val",
                "labels": "normal" if index % 2 else "effusion|cardiomegaly", "view": "PA", "age": "40",
                "sex": "male", "mask": f"{index}-mask.png", "report": "Small left pleural effusion.",
            }
        )  # fmt: skip
    with open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return root
