"""Reading radiographs and colour pictures, and writing labelled PNGs. A value range is never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from skiagraph.errors import ImageError
from skiagraph.files import atomic_path

SYNTHETIC_TEXT = {"Synthetic": "Synthetic image made by skiagraph; not a real patient, not for clinical use"}
MINIMUM_SIDE = 32
COLOUR_TOLERANCE = 12 / 255
"""Mean channel difference up to which a colour file counts as a grey picture (JPEG chroma noise)."""


@dataclass(frozen=True)
class Radiograph:
    """One picture: `pixels` float32 (H, W) in [0, 1], bright = dense; `view` "AP", "PA", "LATERAL" or None."""

    pixels: np.ndarray
    source: Path
    view: str | None = None


def read_radiograph(path: str | Path) -> Radiograph:
    """Read a PNG, JPEG, WebP or DICOM file.

    Pictures of 8 or 16 bits are divided by their full scale. DICOM (recognised by content) goes through the modality
    and VOI LUTs, is scaled from the minimum to the maximum of the result, and inverted where MONOCHROME1.

    Raises:
        ImageError: missing, unreadable, truncated, constant, coloured or multi-frame files, or a side under 32 px.
    """
    pixels, view = _read(Path(path))
    if pixels.ndim == 3:
        raise ImageError(f"image {path} is coloured; a radiograph is grey")
    return Radiograph(pixels=pixels, source=Path(path), view=view)


def read_picture(path: str | Path) -> np.ndarray:
    """Any picture, float32 in [0, 1]: (H, W) as `read_radiograph` gives it or, where it is coloured, (H, W, 3).

    Raises:
        ImageError: as `read_radiograph`, but for colour.
    """
    return _read(Path(path))[0]


def read_planes(path: str | Path, channels: int) -> np.ndarray:
    """A picture as float32 (channels, H, W) in [0, 1]: 1 as `read_radiograph`, 3 as `read_picture` gives it.

    Of a grey picture all channels are equal.
    """
    pixels = read_radiograph(path).pixels if channels == 1 else read_picture(path)
    return np.broadcast_to(np.moveaxis(np.atleast_3d(pixels), -1, 0), (channels, *pixels.shape[:2]))


def _read(path: Path) -> tuple[np.ndarray, str | None]:
    """Pixels, grey or coloured, and the view where the file says it."""
    if not path.is_file():
        raise ImageError(f"image {path} does not exist or is a folder; give the path of a PNG, JPEG or DICOM file")
    view = None
    if is_dicom(path):
        pixels, view = _read_dicom(path)
    else:
        pixels = _read_picture(path)
    if min(pixels.shape[:2]) < MINIMUM_SIDE:
        raise ImageError(
            f"image {path} is {pixels.shape[1]}x{pixels.shape[0]}; both sides must be at least {MINIMUM_SIDE}"
        )
    if pixels.min() == pixels.max():
        raise ImageError(f"image {path} is constant; it shows nothing")
    return pixels.astype(np.float32), view


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


def write_png(path: str | Path, pixels: np.ndarray, *, text: Mapping[str, str] | None = None) -> None:
    """Write an 8-bit PNG, grey or in colour, atomically; `text` goes into its metadata.

    Raises:
        ImageError: pixels that are not finite floats (H, W) or (H, W, 3) in [0, 1].
    """
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    picture = Image.fromarray(np.round(_checked(pixels) * 255).astype(np.uint8))
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


def _read_picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ImageError(f"image {path} has {picture.n_frames} frames; give one frame a file")
            picture.load()
            if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
                return _scaled(np.asarray(picture).astype(np.int64), 65535, path)
            if picture.mode in ("L", "1"):
                return np.asarray(picture.convert("L"), np.float32) / 255
            colours = np.asarray(picture.convert("RGB"), np.float32) / 255
            return colours if np.ptp(colours, axis=-1).mean() > COLOUR_TOLERANCE else colours.mean(axis=-1)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"image {path} cannot be read ({error}); is it a whole PNG, JPEG or DICOM file?") from error


def _scaled(values: np.ndarray, full: int, path: Path) -> np.ndarray:
    if values.min() < 0 or values.max() > full:
        raise ImageError(f"image {path} has values outside 0 to {full}; save it as 8- or 16-bit grey")
    return (values / full).astype(np.float32)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its content or, failing that, its name."""
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")


def _read_dicom(path: Path) -> tuple[np.ndarray, str | None]:
    try:
        dataset = pydicom.dcmread(path)
        if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
            raise ImageError(f"DICOM {path} has {dataset.NumberOfFrames} frames; give one frame a file")
        kind = dataset.get("PhotometricInterpretation")
        if kind not in ("MONOCHROME1", "MONOCHROME2"):
            raise ImageError(f"DICOM {path} is {kind}; expected MONOCHROME1 or MONOCHROME2")
        values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    except (
        InvalidDicomError,
        AttributeError,
        KeyError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        OSError,
    ) as error:
        raise ImageError(f"DICOM {path} cannot be read ({' '.join(str(error).split())[:200]})") from error
    low, high = values.min(), values.max()
    pixels = (values - low) / max(high - low, 1e-9)
    if kind == "MONOCHROME1":
        pixels = 1 - pixels
    view = {"AP": "AP", "PA": "PA", "LL": "LATERAL", "RL": "LATERAL"}.get(dataset.get("ViewPosition"))
    return pixels, view
