"""Reading radiographs and colour pictures, and writing labelled PNGs. A value range is never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from skiagraph.data.dicom import check_header, is_dicom, open_dicom, read_dicom, spacing_of, view_of
from skiagraph.errors import ImageError
from skiagraph.files import atomic_path

SYNTHETIC_TEXT = {"Synthetic": "Synthetic image made by skiagraph; not a real patient, not for clinical use"}
MINIMUM_SIDE = 32
COLOUR_TOLERANCE = 12 / 255
"""Mean channel difference up to which a colour file counts as a grey picture (JPEG chroma noise)."""


SHEET_NAME = "contact-sheet.png"
"""What a run shows its pictures on; no picture itself."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Names of pictures: such a file of a folder is one, even where it is damaged."""


@dataclass(frozen=True)
class Radiograph:
    """One picture, and what its file says of it.

    pixels: float32 (H, W) in [0, 1], bright = dense; (H, W, 3) of a coloured picture.
    view: "AP", "PA", "LATERAL" or None.
    spacing: millimetres between rows and between columns, or None.
    bits: of a pixel, as stored: 8 or 16.
    uid: SOP Instance UID of a DICOM file, or None.
    """

    pixels: np.ndarray
    source: Path
    view: str | None = None
    spacing: tuple[float, float] | None = None
    bits: int = 8
    uid: str | None = None


def read_image(path: str | Path) -> Radiograph:
    """Read a PNG, JPEG, WebP or DICOM file, grey or coloured.

    Pictures of 8 or 16 bits are divided by their full scale; DICOM (recognised by content) is read by `read_dicom`.
    Equal colour channels, as of screenshots, become grey.

    Raises:
        ImageError: missing, unreadable, truncated, constant or multi-frame files, DICOM without pixels or of another
            modality, or a side under 32 px.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"image {path} does not exist or is a folder; give the path of a PNG, JPEG or DICOM file")
    view = spacing = uid = None
    if is_dicom(path):
        pixels, dataset = read_dicom(path)
        view, spacing, bits = view_of(dataset), spacing_of(dataset), int(dataset.BitsStored)
        uid = str(dataset.get("SOPInstanceUID") or "") or None
    else:
        pixels, bits = _read_picture(path)
    pixels = _without_colour_noise(pixels)
    if min(pixels.shape[:2]) < MINIMUM_SIDE:
        raise ImageError(
            f"image {path} is {pixels.shape[1]}x{pixels.shape[0]}; both sides must be at least {MINIMUM_SIDE}"
        )
    if pixels.min() == pixels.max():
        raise ImageError(f"image {path} is constant; it shows nothing")
    return Radiograph(pixels.astype(np.float32), path, view, spacing, 8 if bits <= 8 else 16, uid)


def read_radiograph(path: str | Path) -> Radiograph:
    """Read a grey picture, as `read_image` does.

    Raises:
        ImageError: as `read_image`, or coloured.
    """
    radiograph = read_image(path)
    planes_of(radiograph, 1)
    return radiograph


def read_picture(path: str | Path) -> np.ndarray:
    """Pixels of any picture, float32 in [0, 1], (H, W) or (H, W, 3), as `read_image` reads it."""
    return read_image(path).pixels


def read_planes(path: str | Path, channels: int) -> np.ndarray:
    """A picture's `planes_of`, as `read_image` reads it."""
    return planes_of(read_image(path), channels)


def planes_of(image: Radiograph, channels: int) -> np.ndarray:
    """Pixels as float32 (channels, H, W) in [0, 1], for 1 channel or 3; of a grey picture all channels are equal.

    Raises:
        ImageError: colours, where there is to be one channel.
    """
    if channels == 1 and image.pixels.ndim == 3:
        raise ImageError(f"image {image.source} is coloured; a radiograph is grey")
    return np.broadcast_to(np.moveaxis(np.atleast_3d(image.pixels), -1, 0), (channels, *image.pixels.shape[:2]))


def _without_colour_noise(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) with nearly equal channels as (H, W); others as they are."""
    grey = pixels.ndim == 3 and np.ptp(pixels, axis=-1).mean() <= COLOUR_TOLERANCE
    return pixels.mean(axis=-1) if grey else pixels


@dataclass(frozen=True)
class Listing:
    """Files of a folder: `pictures`, in order, and of every other file why it was `passed_over`."""

    pictures: tuple[Path, ...]
    passed_over: Mapping[Path, str]


def list_pictures(folder: str | Path) -> Listing:
    """Frontal radiographs and other pictures below a folder, by their headers; no pixels are decoded.

    Passed over are hidden files, those that are no picture, contact sheets of runs, and DICOM of another modality,
    without pixels, of several frames, or that says that its view is lateral. Damaged pictures are pictures: reading
    them says what is wrong.

    Raises:
        ImageError: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"folder {folder} does not exist; give a folder of pictures")
    reasons = {path: _no_picture(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()}
    pictures = tuple(path for path, reason in reasons.items() if reason is None)
    return Listing(pictures, {path: reason for path, reason in reasons.items() if reason is not None})


def require_frontal(view: str | None, path: str | Path) -> None:
    """Raise ImageError for the view "LATERAL", which the models do not know."""
    if view == "LATERAL":
        raise ImageError(f"{path} is a lateral view; the models know frontal views only")


def _no_picture(path: Path, folder: Path) -> str | None:
    """Why a file is no picture to read; None for one that is, or would be if it were whole."""
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return f"{path} is hidden"
    if path.name == SHEET_NAME:
        return f"{path} is a sheet of pictures"
    if path.name == "DICOMDIR":
        return f"{path} is the index of a DICOM medium"
    if is_dicom(path):
        return _no_frontal(path)
    try:
        Image.open(path).close()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        damaged = path.suffix.lower() in PICTURES or not isinstance(error, UnidentifiedImageError)
        return None if damaged else f"{path} is no PNG, JPEG, WebP or DICOM file"
    return None


def _no_frontal(path: Path) -> str | None:
    """Why a DICOM file is no frontal radiograph, by its header; None where that cannot be read."""
    try:
        dataset = open_dicom(path, defer_size="1 KB")
    except ImageError:
        return None
    try:
        check_header(dataset, path)
        require_frontal(view_of(dataset), path)
    except ImageError as error:
        return str(error)
    return None


def square(pixels: np.ndarray, size: int, *, fit: str = "pad") -> np.ndarray:
    """A float32 (size, size) copy of (H, W) pixels in [0, 1], or (size, size, 3) of (H, W, 3).

    Args:
        pixels: float (H, W) or (H, W, 3) in [0, 1].
        size: side of the result in pixels.
        fit: "pad" (black), "crop" (centre) or "squash" (aspect not kept).

    Raises:
        ImageError: another shape, range, size or fit.
    """
    pixels = _checked(pixels)
    if size < 1 or fit not in ("pad", "crop", "squash"):
        raise ImageError(f"cannot make a square of {size} px with fit {fit!r}; fit is pad, crop or squash")
    height, width = pixels.shape[:2]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    if fit == "pad":
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        edges = ((top, side - height - top), (left, side - width - left))
        pixels = np.pad(pixels, [*edges, (0, 0)][: pixels.ndim])
    return _resized(pixels, size).clip(0, 1)


def unsquare(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A float field (size, size) or (size, size, 3) on a picture's padded square, at the picture's own `shape`."""
    height, width = shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return _resized(field, side)[top : top + height, left : left + width]


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Bicubic, channel by channel."""
    if pixels.ndim == 3:
        return np.stack([_resized(channel, size) for channel in np.moveaxis(pixels, -1, 0)], axis=-1)
    resized = Image.fromarray(np.ascontiguousarray(pixels, np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32)


def write_png(path: str | Path, pixels: np.ndarray, *, text: Mapping[str, str] | None = None, bits: int = 8) -> None:
    """Write a PNG, grey or in colour, atomically; `text` goes into its metadata, `bits` are 8 or, if grey, 16.

    Raises:
        ImageError: pixels that are not finite floats (H, W) or (H, W, 3) in [0, 1].
    """
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    stored = np.round(_checked(pixels) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    picture = Image.fromarray(stored)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=info)


def _checked(pixels: np.ndarray) -> np.ndarray:
    pixels = np.asarray(pixels)
    picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not picture or not np.issubdtype(pixels.dtype, np.floating) or not pixels.size:
        raise ImageError(f"pixels are {pixels.dtype} {pixels.shape}; expected float (H, W) or (H, W, 3) in [0, 1]")
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ImageError("pixels lie outside [0, 1]; scale them first, ranges are not guessed")
    return pixels.astype(np.float32)


def _read_picture(path: Path) -> tuple[np.ndarray, int]:
    """Pixels in [0, 1], and how many bits they were stored in."""
    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ImageError(f"image {path} has {picture.n_frames} frames; give one frame a file")
            picture.load()
            if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
                return _scaled(np.asarray(picture).astype(np.int64), 65535, path), 16
            if picture.mode in ("L", "1"):
                return np.asarray(picture.convert("L"), np.float32) / 255, 8
            return np.asarray(picture.convert("RGB"), np.float32) / 255, 8
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"image {path} cannot be read ({error}); is it a whole PNG, JPEG or DICOM file?") from error


def _scaled(values: np.ndarray, full: int, path: Path) -> np.ndarray:
    if values.min() < 0 or values.max() > full:
        raise ImageError(f"image {path} has values outside 0 to {full}; save it as 8- or 16-bit grey")
    return (values / full).astype(np.float32)
