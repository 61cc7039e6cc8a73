"""A contact sheet: images in a grid with what was asked for under each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from skiagraph.data.images import SHEET_NAME, SYNTHETIC_TEXT
from skiagraph.files import atomic_path

__all__ = ["SHEET_LIMIT", "SHEET_NAME", "write_contact_sheet"]

LINE, MARGIN = 14, 6

SIDE = 256
"""Of an image on the sheet, in pixels."""

SHEET_LIMIT = 24
"""Images on a sheet, at most."""


def write_contact_sheet(
    path: Path, images: Sequence[np.ndarray], captions: Sequence[str], *, columns: int = 4, synthetic: bool = True
) -> None:
    """Write a PNG grid of images (H, W) or (H, W, 3), float in [0, 1], with captions below.

    Its foot says that the images are synthetic or, where they are not, that a program drew on them.
    """
    side = SIDE
    wrapped = [textwrap.wrap(c, width=side // 7)[:4] for c in captions]
    text_height = LINE * max(map(len, wrapped)) + 2 * MARGIN
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    size = columns * (side + MARGIN), rows * (side + text_height) + LINE + MARGIN
    mode = "RGB" if any(image.ndim == 3 for image in images) else "L"
    sheet = Image.new(mode, size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for index, (image, lines) in enumerate(zip(images, wrapped, strict=True)):
        x, y = (index % columns) * (side + MARGIN), (index // columns) * (side + text_height)
        tile = Image.fromarray(np.round(image * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(tile, (x, y))
        draw.multiline_text((x + 2, y + side + MARGIN), "\n".join(lines), fill="black", font=font, spacing=1)
    note = "Synthetic images." if synthetic else "Masks made by a program."
    draw.text((2, sheet.height - LINE - 2), f"{note} Not for clinical use.", fill="black", font=font)
    info = PngInfo()
    for key, value in SYNTHETIC_TEXT.items() if synthetic else ():
        info.add_text(key, value)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=info)
