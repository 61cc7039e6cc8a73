"""What a report says of a DICOM image, as a Structured Report beside it, through highdicom (the extra `dicom-seg`)."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from skiagraph.data.images import SYNTHETIC_TEXT
from skiagraph.files import atomic_path


def report_text(dataset: Dataset) -> str:
    """The text of a Structured Report, but for what `write_report` says of synthetic images."""
    texts = [str(element.value) for element in dataset.iterall() if element.keyword == "TextValue"]
    return " ".join(text for text in texts if text != SYNTHETIC_TEXT["Synthetic"])


def write_report(path: Path, image: Dataset, text: str, *, synthetic: bool) -> None:
    """Write a report's text as an Enhanced SR of the image's study, with a reference to the image.

    Args:
        path: of the new file.
        image: what the report speaks of, with patient and study.
        text: of the report.
        synthetic: whether to say that it belongs to an image that no detector saw.
    """
    import highdicom as hd

    contains = hd.sr.RelationshipTypeValues.CONTAINS
    parts = [
        hd.sr.TextContentItem(codes.DCM.Finding, text, contains),
        hd.sr.ImageContentItem(
            codes.DCM.DiagnosticSourceImages, image.SOPClassUID, image.SOPInstanceUID, relationship_type=contains
        ),
    ]  # fmt: skip
    if synthetic:
        parts.append(hd.sr.TextContentItem(codes.DCM.Comment, SYNTHETIC_TEXT["Synthetic"], contains))
    content = hd.sr.ContainerContentItem(codes.LN.DiagnosticImagingReport)
    content.ContentSequence = hd.sr.ContentSequence(parts)
    made = hd.sr.EnhancedSR(
        [image], content, generate_uid(entropy_srcs=[image.SeriesInstanceUID, "report"]), 2,
        generate_uid(entropy_srcs=[image.SOPInstanceUID, "report"]), 1, manufacturer="skiagraph",
    )  # fmt: skip
    made.SeriesDescription = "skiagraph: report"
    with atomic_path(path) as temporary:
        made.save_as(temporary)
