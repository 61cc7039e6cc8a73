"""Reading radiographs and secondary captures from DICOM, however they are stored, by pydicom's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_rescale, apply_voi_lut, get_decoder
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from skiagraph.errors import ImageError, one_line

EXTRA = "pip install 'skiagraph[dicom-jpeg]'"
"""What brings the decoders that pydicom alone lacks."""

MODALITIES = ("CR", "DX", "RG", "RF", "OT", "SC", "ES", "XC")
"""That are projections or photographs: radiographs, secondary captures, endoscopy. CT, MR and the like are slices."""

VIEWS = {"AP": "AP", "PA": "PA", "LL": "LATERAL", "RL": "LATERAL", "LATERAL": "LATERAL", "LAT": "LATERAL"}
"""By `ViewPosition`."""

ROBUST = (0.5, 99.5)
"""Percentiles that become black and white where no window is given, so that markers and dead pixels do not set them."""

UNREADABLE = (AttributeError, KeyError, IndexError, TypeError, ValueError, NotImplementedError, RuntimeError, OSError)
"""What pydicom and its decoders raise on damaged files."""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its content, with or without a preamble, or, failing that, its name."""
    with open(path, "rb") as stream:
        head = stream.read(132)
    return head[128:] == b"DICM" or _bare(head) or path.suffix.lower() in (".dcm", ".dicom")


def open_dicom(path: Path, **options: Any) -> Dataset:
    """A DICOM file as pydicom reads it with these options, also one without a preamble or a transfer syntax.

    Raises:
        ImageError: unreadable.
    """
    try:
        with open(path, "rb") as stream:
            bare = _bare(stream.read(132))
        dataset = pydicom.dcmread(path, force=bare, **options)
    except InvalidDicomError as error:
        raise ImageError(f"{path} is named like DICOM but does not begin like it; copy the file again") from error
    except UNREADABLE as error:
        raise ImageError(f"DICOM {path} cannot be read ({one_line(error)})") from error
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def check_header(dataset: Dataset, path: Path) -> None:
    """Raise ImageError unless a dataset is one projection or photograph with pixels."""
    modality = str(dataset.get("Modality") or "")
    if modality and modality not in MODALITIES:
        raise ImageError(f"DICOM {path} is {modality}, not a radiograph; what is read: {', '.join(MODALITIES)}")
    if "PixelData" not in dataset or "PhotometricInterpretation" not in dataset:
        raise ImageError(f"DICOM {path} has no pixels; it may be a report, or a header that was saved alone")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError(f"DICOM {path} has {dataset.NumberOfFrames} frames; give one frame a file")


def view_of(dataset: Dataset) -> str | None:
    """ "AP", "PA", "LATERAL", or None where the file does not say."""
    return VIEWS.get(str(dataset.get("ViewPosition") or "").strip().upper())


def spacing_of(dataset: Dataset) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; None where the file does not say.

    `PixelSpacing` is taken before `ImagerPixelSpacing`, which is the detector's and larger than the patient's.
    """
    given = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    try:
        rows, columns = map(float, given or ())
    except (TypeError, ValueError):
        return None
    return (rows, columns) if rows > 0 and columns > 0 else None


def referenced_images(dataset: Dataset) -> Iterator[str]:
    """SOP Instance UIDs of the images that a SEG or a report refers to, wherever in it."""
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


def read_dicom(path: Path) -> tuple[np.ndarray, Dataset]:
    """Pixels in [0, 1], bright = dense, (H, W) or (H, W, 3), and the data set they are of.

    Grey values go through rescale (or modality LUT) and the window (or VOI LUT); black and white are the limits of the
    result or, where no window is given, its robust percentiles. MONOCHROME1 is inverted. Colours are divided by their
    full scale.

    Raises:
        ImageError: unreadable, without pixels, of another modality, of several frames, or in an unknown colour space.
    """
    dataset = open_dicom(path)
    check_header(dataset, path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not _decodable(syntax):
        raise ImageError(f"DICOM {path} is compressed as {syntax.name}, which cannot be decoded here; {EXTRA}")
    kind = dataset.PhotometricInterpretation
    try:
        stored = dataset.pixel_array
        if kind == "RGB" or kind.startswith("YBR"):
            return stored / (2.0 ** int(dataset.BitsStored) - 1), dataset
        if kind not in ("MONOCHROME1", "MONOCHROME2"):
            raise ImageError(f"DICOM {path} is {kind}; expected MONOCHROME1, MONOCHROME2, RGB or YBR")
        pixels = _grey(stored, dataset)
    except UNREADABLE as error:
        hint = f"; {EXTRA} may decode it" if syntax.is_compressed else ""
        raise ImageError(f"DICOM {path} cannot be read ({one_line(error)}){hint}") from error
    return 1 - pixels if kind == "MONOCHROME1" else pixels, dataset


def _grey(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    values = apply_rescale(stored, dataset)
    window = (dataset.get("WindowCenter"), dataset.get("WindowWidth"))
    if "VOILUTSequence" in dataset or not any(value in (None, "") for value in window):
        values = apply_voi_lut(values, dataset).astype(np.float64)
        low, high = values.min(), values.max()
    else:
        shown = values[stored != dataset.PixelPaddingValue] if "PixelPaddingValue" in dataset else values
        low, high = np.percentile(shown if shown.size else values, ROBUST)
        low, high = (low, high) if high > low else (values.min(), values.max())
    return ((values - low) / max(high - low, 1e-9)).clip(0, 1)


def _bare(head: bytes) -> bool:
    """Whether a file begins with a data element of group 2 or 8, as DICOM without a preamble does."""
    return len(head) > 8 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0


def _decodable(syntax: pydicom.uid.UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False
