"""Where a radiograph's organs are: one interface for the shipped segmenter and other people's networks.

A provider takes a float image (H, W) in [0, 1] and gives bool masks (H, W) by name, at least "right lung" and
"left lung" (the patient's sides). A domain's edits complete them to all of its regions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from skiagraph.data.dicom import is_dicom
from skiagraph.data.images import Radiograph, square, write_png
from skiagraph.data.masks import LUNG_SIDES, Regions, components, one_piece, read_segments, read_sides
from skiagraph.domains.domain import Domain
from skiagraph.errors import DataError, MaskError, ModelError
from skiagraph.models.latent_segmenter import LatentSegmenter
from skiagraph.models.registry import load_component, shipped_models
from skiagraph.models.segmenter import Segmenter
from skiagraph.pipelines.mask_checks import scores_of_views
from skiagraph.plugins import brought

SEGMENTER = "lung-segmenter"

THRESHOLDS = "thresholds"
"""In a segmenter's place: lungs by thresholds, with no drawn mask behind them."""

Provider = Callable[[np.ndarray], Mapping[str, np.ndarray]]

SURE = 0.93
"""Agreement of a picture's views from which on it shows lungs; a segmenter's own bound says whether masks are good."""

LUNG_SHARE = (0.015, 0.35)
"""Share of the picture that one lung covers."""

LARGEST_RATIO = 6.0
"""Of one lung's area to the other's."""


def shipped_organs(image: np.ndarray) -> dict[str, np.ndarray]:
    """Lungs from the shipped segmenter, by several views of the image; the largest piece of each.

    Raises:
        DataError: what it found does not look like two lungs, or the views do not agree on it; is it a frontal chest
            radiograph?
    """
    segmenter = load_segmenter(SEGMENTER)
    scores, agreement = scores_of_views(segmenter, torch.from_numpy(image).float()[None, None] * 2 - 1)
    found = one_piece(scores[0].argmax(dim=0).to(torch.uint8).numpy())
    lungs = {"right lung": found == 1, "left lung": found == 2}
    check_lungs(lungs["right lung"], lungs["left lung"])
    if agreement < SURE:
        raise DataError(
            f"no lungs found for sure (views agree to {float(agreement):.2f}); is it a frontal chest radiograph?"
        )
    return lungs


@cache
def load_segmenter(name: str) -> Segmenter | LatentSegmenter:
    """A segmenter by name or folder, loaded once and ready to use.

    Raises:
        ModelError: a model that does not load, or is no segmenter.
    """
    model = load_component(name).eval()
    if not isinstance(model, Segmenter | LatentSegmenter):
        raise ModelError(f"{name} is a {type(model).__name__}, not a segmenter")
    return model


def torchxrayvision_organs(image: np.ndarray) -> dict[str, np.ndarray]:
    """Lungs and heart from torchxrayvision's PSPNet (Lian et al. 2021), which fetches its weights on first use.

    Raises:
        ModelError: torchxrayvision is not installed.
    """
    models = _imported("torchxrayvision.baseline_models.chestx_det", "torchxrayvision")
    network = models.PSPNet().eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(image)[None, None].float() * 2048 - 1024)
    logits = F.interpolate(logits, image.shape, mode="bilinear", align_corners=False)[0]
    named = {name.lower(): logits[k].sigmoid().numpy() > 0.5 for k, name in enumerate(network.targets)}
    return {name: named[name] for name in ("right lung", "left lung", "heart")}


def cxas_organs(image: np.ndarray) -> dict[str, np.ndarray]:
    """Lungs and heart from CXAS (Seibold et al., BMVC 2022), which fetches its weights on first use.

    Raises:
        ModelError: cxas is not installed.
    """
    cxas, labels = _imported("cxas", "cxas"), _imported("cxas.label_mapper", "cxas").id2label_dict
    with tempfile.TemporaryDirectory() as folder:
        write_png(Path(folder) / "image.png", image)
        network = cxas.CXAS(model_name="UNet_ResNet50_default", gpus="cpu")
        made = network.process_file(
            filename=str(Path(folder) / "image.png"), do_store=False, output_directory=folder
        )["segmentation_preds"][0]  # fmt: skip
    wanted = {name: int(k) for k, name in labels.items() if name in ("right lung", "left lung", "heart")}
    maps = {name: torch.as_tensor(made[k]).float()[None, None] for name, k in wanted.items()}
    return {name: F.interpolate(m, image.shape)[0, 0].numpy() > 0.5 for name, m in maps.items()}


PROVIDERS: dict[str, Provider] = {
    "shipped": shipped_organs, "torchxrayvision": torchxrayvision_organs, "cxas": cxas_organs
}  # fmt: skip
"""Providers by name."""


def organ_regions(organs: str, image: np.ndarray, radiograph: Radiograph) -> Regions:
    """Masks of organs on a radiograph's padded square, at least both lungs' where they are read or found.

    Args:
        organs: a name of `PROVIDERS` or of another package's (`skiagraph.plugins`), a segmenter's name or folder, or a
            file of the radiograph's size: a DICOM SEG with segments "right lung" and "left lung", or a picture of both
            lungs or with the values 1, right, and 2, left.
        image: float (size, size) in [0, 1], the square.
        radiograph: what it was made from.

    Raises:
        DataError: no two lungs found, or unknown organs.
        MaskError: a file that cannot be read, of another size, or of another DICOM image.
        ModelError: a model that does not load, or that does not segment both lungs.
    """
    if organs in PROVIDERS:
        return PROVIDERS[organs](image)
    if Path(organs).is_file():
        return _from_file(Path(organs), radiograph, len(image))
    if organs in shipped_models() or Path(organs).is_dir():
        return _by_model(organs, image)
    others = brought("skiagraph.organs")
    if organs in others:
        return others[organs].load()(image)
    known = ", ".join((*PROVIDERS, *others))
    raise DataError(f"no organs {organs!r}; known: {known}, a segmenter, or the path of a mask file")


def _from_file(path: Path, radiograph: Radiograph, size: int) -> dict[str, np.ndarray]:
    if is_dicom(path):
        segments = read_segments(path, radiograph.uid)
    else:
        right, left = read_sides(path)
        segments = {"right lung": right, "left lung": left}
    shape = next(iter(segments.values())).shape
    if shape != radiograph.pixels.shape:
        raise MaskError(f"organs {path} are {shape}, the image {radiograph.pixels.shape}; both need one size")
    return {name: square(mask.astype(np.float32), size) >= 0.5 for name, mask in segments.items()}


def _by_model(name: str, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every class that a segmenter finds, by its name."""
    model = load_segmenter(name)
    classes = list(model.config.classes)[1:]
    side = model.config.working_size
    labels = model.segment(torch.from_numpy(square(image, side))[None, None] * 2 - 1)[0].cpu().numpy()
    found = {c: square((labels == k).astype(np.float32), len(image)) >= 0.5 for k, c in enumerate(classes, start=1)}
    if not set(LUNG_SIDES) <= found.keys():
        raise ModelError(f"{name} segments {', '.join(classes)}; organs need a model of {' and '.join(LUNG_SIDES)}")
    found |= {side: next(components(found[side]), found[side]) for side in LUNG_SIDES}
    check_lungs(*(found[side] for side in LUNG_SIDES))
    return found


def check_lungs(right: np.ndarray, left: np.ndarray) -> None:
    """Raise DataError unless two masks can be a frontal radiograph's lungs: sizes, sides and heights of both.

    A segmenter finds something in any picture. The right lung lies left in the picture, at the left one's height.
    """
    shares = right.mean(), left.mean()
    low, high = LUNG_SHARE
    if min(shares) < low or max(shares) > high or max(shares) > LARGEST_RATIO * min(shares):
        raise DataError(
            f"no two lungs found in the picture (shares {shares[0]:.3f} and {shares[1]:.3f}); is it a frontal chest "
            "radiograph?"
        )
    (row_right, column_right), (row_left, column_left) = (ndimage.center_of_mass(m) for m in (right, left))
    height, width = right.shape
    if column_left - column_right < 0.15 * width or abs(row_left - row_right) > 0.15 * height:
        raise DataError("what was found does not lie side by side as two lungs do; is it a frontal chest radiograph?")


@torch.no_grad()
def find_lungs(segmenter: Segmenter, images: Tensor) -> Tensor:
    """The largest piece of each lung in uint8 images (n, 1, H, W): uint8 (n, H, W), 1 right, 2 left, 0 elsewhere."""
    found = torch.zeros(images[:, 0].shape, dtype=torch.uint8)
    for start in range(0, len(images), 32):
        part = slice(start, start + 32)
        pixels = images[part].to(segmenter.device).float() / 127.5 - 1
        classes = segmenter.segment(pixels).cpu().numpy()
        found[part] = torch.from_numpy(np.stack([one_piece(picture) for picture in classes]))
    return found


def lung_finder(name: str | None, domain: Domain, device: torch.device | None = None) -> Callable[[Tensor], Tensor]:
    """What finds lungs as `find_lungs` does: a segmenter by name or folder, `THRESHOLDS`, or for None nothing.

    Raises:
        ModelError: a model that does not load, or a domain that finds nothing by thresholds.
    """
    if name is None:
        return lambda images: torch.zeros(images[:, 0].shape, dtype=torch.uint8)
    if name != THRESHOLDS:
        return partial(find_lungs, load_component(name).to(device).eval())
    if domain.rough is None:
        raise ModelError(f"the domain {domain.name!r} finds nothing by thresholds; name a segmenter")
    return lambda images: torch.from_numpy(np.stack([domain.rough(image / 255) for image in images[:, 0].numpy()]))


def _imported(module: str, package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ModelError(
            f"{package} is not installed ({error}); `pip install {package}`, or use other masks"
        ) from error
