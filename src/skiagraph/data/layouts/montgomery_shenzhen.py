"""Montgomery County and Shenzhen (Jaeger et al. 2014): images, a text file of clinical readings each, lung masks."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from skiagraph.data.layouts.case import Case, sex_of, years
from skiagraph.data.layouts.two_masks import SIDES, both_lungs
from skiagraph.errors import DataError


def read(source: Path) -> list[Case]:
    """Cases of `CXR_png/*.png`; a name that ends in _1 is tuberculosis, in _0 normal. Each image is a patient.

    Montgomery's masks are in `ManualMask/leftMask` and `rightMask`, those that were drawn for Shenzhen later in `mask/`
    or `masks/` as `..._mask.png`. No split is published.

    Raises:
        DataError: no such images.
    """
    pictures = sorted(p for p in source.glob("CXR_png/*.png") if re.fullmatch(r"(MCU|CHN)CXR_\d+_[01]", p.stem))
    if not pictures:
        raise DataError(f"{source}/CXR_png has no MCUCXR_....png or CHNCXR_....png; give the folder that holds CXR_png")
    return [_case(source, path) for path in pictures]


def _case(source: Path, path: Path) -> Case:
    reading = source / "ClinicalReadings" / f"{path.stem}.txt"
    said = reading.read_text(encoding="utf-8", errors="replace") if reading.is_file() else ""
    sex, age = re.search(r"\b(male|female|[MF])\b", said, re.I), re.search(r"(\d+)\s*(Y|yr|month|day)", said, re.I)
    right, left = (source / "ManualMask" / f"{side}Mask" / path.name for side in ("right", "left"))
    whole = [source / folder / f"{path.stem}_mask.png" for folder in ("mask", "masks")]
    both = right.is_file() and left.is_file()
    return Case(
        path, path.stem, findings=("tuberculosis",) if path.stem.endswith("_1") else ("normal",),
        age=years(f"{age[1]}{age[2][0]}") if age else None, sex=sex_of(sex[1]) if sex else "",
        mask=partial(both_lungs, right, left, path) if both else next((p for p in whole if p.is_file()), None),
        classes=SIDES if both else ("lung",),
    )  # fmt: skip
