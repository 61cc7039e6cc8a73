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


def polyp(rng, side=SIDE):
    """(pixels uint8 (side, side, 3), mask uint8) of a red mound with a reflection on pink mucosa."""
    y, x = np.mgrid[:side, :side] / side
    centre = rng.uniform(0.4, 0.6, 2)
    inside = ((x - centre[0]) / 0.22) ** 2 + ((y - centre[1]) / 0.18) ** 2 < 1
    colours = np.where(inside[..., None], [0.75, 0.25, 0.2], [0.7, 0.45, 0.4]) + rng.normal(0, 0.03, (side, side, 3))
    colours[np.hypot(x - centre[0], y - centre[1]) < 0.04] = 1
    return (colours.clip(0, 1) * 255).astype(np.uint8), (inside * 255).astype(np.uint8)


def polyps(root, train=6, val=2):
    """`root/polyps`, as `dataset`, in colour and without reports."""
    return dataset(root, "polyps", train, val, draw=polyp, report="")


def dataset(root, name="phantoms", train=6, val=3, draw=thorax, report="Small left pleural effusion."):
    """Write `root/name` as a folder dataset with masks, labels and reports; returns `root`."""
    rng, folder = np.random.default_rng(0), root / name
    folder.mkdir(parents=True)
    rows = []
    for index in range(train + val):
        pixels, mask = draw(rng)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        Image.fromarray(mask).save(folder / f"{index}-mask.png")
        rows.append(
            {
                "file": f"{index}.png", "patient": f"p{index}", "split": "train" if index < train else "val",
                "labels": "normal" if index % 2 else "effusion|cardiomegaly", "view": "PA", "age": "40",
                "sex": "male", "mask": f"{index}-mask.png", "report": report,
            }
        )  # fmt: skip
    with open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return root
