"""Masks: label maps, regions and the segments of DICOM SEG files read, label maps written, components found."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from pydicom.errors import InvalidDicomError
from scipy import ndimage

from skiagraph.data.dicom import is_dicom, referenced_images
from skiagraph.data.images import square
from skiagraph.errors import DataError, MaskError
from skiagraph.files import atomic_path

TINTS = np.array([[255, 80, 60], [70, 150, 255], [90, 220, 120]], np.float32)
"""RGB that classes are shown in, again from the first after the last."""

LUNG_SIDES = ("right lung", "left lung")

Regions = Mapping[str, np.ndarray]
"""Masks bool (H, W) by name."""


def read_mask(path: str | Path, size: int, *, fit: str, classes: Sequence[str]) -> np.ndarray:
    """Label map uint8 (size, size): 0 background, k the k-th of `classes`.

    A picture of two values, one beyond the classes, is a mask: of the one class or, for `LUNG_SIDES`, of both lungs,
    which are told apart by component. Any other holds the labels themselves.

    Args:
        path: of an 8-bit picture.
        size: side of the result in pixels.
        fit: as `skiagraph.data.images.square` was given for the image, so that both keep their place.
        classes: names of the classes.

    Raises:
        DataError: unreadable, labels beyond the classes, two values for several classes, or fewer than two lungs.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"mask {path} cannot be read ({error})") from error
    levels = np.unique(values)
    if len(levels) > 2 or levels.max() <= len(classes):
        if levels.max() > len(classes):
            raise DataError(f"mask {path} has the label {levels.max()} beyond the {len(classes)} class(es)")
        labels = np.zeros((size, size), np.uint8)
        for k in range(1, len(classes) + 1):
            labels[_placed(values == k, size, fit) > 0] = k  # where two touch, both may reach half a pixel
        return labels
    mask = _placed(values > 0, size, fit)
    if len(classes) == 1:
        return mask.astype(np.uint8)
    if tuple(classes) != LUNG_SIDES:
        raise DataError(f"mask {path} has two values, which cannot be {len(classes)} classes; store labels 1, 2, ...")
    right, left = split_lungs(mask)
    return right.astype(np.uint8) + 2 * left.astype(np.uint8)


def read_region(path: str | Path, shape: tuple[int, int], uid: str | None = None) -> np.ndarray:
    """A region bool (H, W): what is not black in a picture, or all segments of a DICOM SEG file together.

    Args:
        path: of the mask.
        shape: (H, W) of the image it belongs to.
        uid: SOP Instance UID of that image, where it is known.

    Raises:
        MaskError: unreadable, another size than the image, of another DICOM image, or empty.
    """
    try:
        mask = _united(read_segments(path, uid)) if is_dicom(Path(path)) else _picture(path)
    except (OSError, UnidentifiedImageError) as error:
        raise MaskError(f"region {path} cannot be read ({error}); give a mask picture or a DICOM SEG file") from error
    if mask.shape != shape:
        raise MaskError(f"region {path} is {mask.shape}, the image {shape}; both need one size")
    if not mask.any():
        raise MaskError(f"region {path} is empty; mark the place that may change")
    return mask


def read_segments(path: str | Path, uid: str | None = None) -> dict[str, np.ndarray]:
    """Segments of a DICOM SEG file by label in lower case, bool (H, W) each; frames of one segment are united.

    Args:
        path: of the file.
        uid: SOP Instance UID of the image that they are to be of, where it is known.

    Raises:
        MaskError: not a readable DICOM SEG file, one without segments, or one that refers to other images than `uid`.
    """
    try:
        dataset = pydicom.dcmread(path)
        labels = {int(s.SegmentNumber): str(s.SegmentLabel).lower() for s in dataset.SegmentSequence}
        frames = dataset.pixel_array
        frames = frames[None] if frames.ndim == 2 else frames
        numbers = [_segment_number(group, dataset) for group in dataset.PerFrameFunctionalGroupsSequence]
        found: dict[str, np.ndarray] = {}
        for number, frame in zip(numbers, frames, strict=True):
            found[labels[number]] = (frame > 0) | found.get(labels[number], False)
    except (OSError, InvalidDicomError, AttributeError, KeyError, ValueError, NotImplementedError) as error:
        raise MaskError(f"{path} is not a readable DICOM SEG file ({' '.join(str(error).split())[:200]})") from error
    if not found:
        raise MaskError(f"DICOM SEG {path} has no segments")
    referenced = set(referenced_images(dataset))
    if uid is not None and referenced and uid not in referenced:
        raise MaskError(f"DICOM SEG {path} is of another image ({sorted(referenced)[0]}) than the one given ({uid})")
    return found


def _segment_number(frame: pydicom.Dataset, dataset: pydicom.Dataset) -> int:
    """The segment that a frame is of, which stands with all frames' common values where there is one segment alone."""
    where = frame if "SegmentIdentificationSequence" in frame else dataset.SharedFunctionalGroupsSequence[0]
    return int(where.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def read_sides(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Right and left lung, bool (H, W), of a mask picture at its own size: of both lungs in one value, or 1 and 2.

    Raises:
        MaskError: unreadable, other values, or fewer than two lungs.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("L"))
        levels = set(np.unique(values)) - {0}
        if levels == {1, 2}:
            return values == 1, values == 2
        if len(levels) == 1:
            return split_lungs(values > 0)
    except (OSError, UnidentifiedImageError, DataError) as error:
        raise MaskError(f"lungs {path} cannot be read ({error}); give a mask picture or a DICOM SEG file") from error
    raise MaskError(f"lungs {path} have the values {sorted(map(int, levels))[:5]}; give 1 and 2, or one value for both")


def _united(segments: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.logical_or.reduce(list(segments.values()))


def _picture(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture.convert("L")) > 0


def split_lungs(mask: np.ndarray, *, minimum_share: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Right and left lung of one lung mask, by its two largest connected components.

    Args:
        mask: bool (H, W), both lungs.
        minimum_share: components under this share of the picture are not a lung.

    Raises:
        DataError: fewer than two components are large enough.
    """
    large = [c for c in itertools.islice(components(mask), 2) if c.mean() >= minimum_share]
    if len(large) < 2:
        raise DataError(f"lung mask has {len(large)} large component(s), two lungs are needed to tell right from left")
    right, left = sorted(large, key=lambda c: ndimage.center_of_mass(c)[1])
    return right, left


def components(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Connected components of a mask, bool (H, W) each, the largest first."""
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    yield from (labels == 1 + index for index in np.argsort(-sizes, kind="stable"))


def one_piece(labels: np.ndarray) -> np.ndarray:
    """A label map uint8 (H, W) in which every class is its largest connected component, without holes."""
    whole = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        whole[ndimage.binary_fill_holes(next(components(labels == label))) & (whole == 0)] = label
    return whole


def write_mask(
    path: str | Path, labels: np.ndarray, classes: Sequence[str], *, text: Mapping[str, str] | None = None
) -> None:
    """Write a label map uint8 (H, W) atomically as a PNG that `read_mask` reads: one class is 255, several 1, 2, ...

    `text` and what the values mean go into its metadata.
    """
    values = [255] if len(classes) == 1 else range(1, len(classes) + 1)
    info = PngInfo()
    meaning = ", ".join(f"{value} {name}" for value, name in zip(values, classes, strict=True))
    for key, value in {**(text or {}), "Classes": f"0 background, {meaning}"}.items():
        info.add_itxt(key, value)
    stored = np.concatenate([[0], values]).astype(np.uint8)[labels]
    with atomic_path(path) as temporary:
        Image.fromarray(stored).save(temporary, format="PNG", pnginfo=info)


def write_labels(path: str | Path, labels: np.ndarray) -> None:
    """Write a label map uint8 (H, W) atomically as a PNG with its own values, as nnU-Net and MONAI want them."""
    with atomic_path(path) as temporary:
        Image.fromarray(labels).save(temporary, format="PNG")


def _placed(mask: np.ndarray, size: int, fit: str) -> np.ndarray:
    return (square(mask.astype(np.float32), size, fit=fit) >= 0.5).astype(np.uint8)
