"""Studies from an archive that speaks DICOMweb (PS3.18), and files to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from skiagraph.engine.job import Done, open_run
from skiagraph.errors import DataError, ImageError, SkiagraphError, one_line
from skiagraph.files import atomic_path
from skiagraph.progress import Listener, progress

SERIES, INSTANCE = "0020000E", "00080018"
"""Tags of the UIDs, as DICOM JSON names them."""


def pull(url: str, study: str, output: Path, *, overwrite: bool = False, listen: Listener = progress) -> dict[str, Any]:
    """Bring a study's files into `output`, a folder for each series; files that are there already are not asked for.

    Args:
        url: of the archive, such as http://127.0.0.1:8042/dicom-web. A name and password stand in ~/.netrc.
        study: its Study Instance UID.
        output: folder of the files and `manifest.json`.
        overwrite: remove what another run left in `output`.
        listen: hears of progress.

    Returns:
        The manifest: `images`, a row each with its `file`.

    Raises:
        DataError: no such study.
        SkiagraphError: no archive answers, dicomweb-client is needed and absent, or `output` holds another run.
    """
    client = _client(url)
    with _asked(url):
        found = client.search_for_instances(study, get_remaining=True)
    if not found:
        raise DataError(f"{url} has no study {study}")
    items = {row[INSTANCE]["Value"][0]: row[SERIES]["Value"][0] for row in found}

    def work(instances: Sequence[tuple[str, str]]) -> Iterator[Done]:
        for series, instance in instances:
            with _asked(url):
                dataset = client.retrieve_instance(study, series, instance)
            file = Path(series) / f"{instance}.dcm"
            with atomic_path(output / file) as temporary:
                dataset.save_as(temporary, enforce_file_format=True)
            yield Done({"file": str(file), "modality": dataset.get("Modality", "")}, files=(str(file),))

    with open_run(output, "pull", {"url": url, "study": study}, overwrite=overwrite, listen=listen) as run:
        kept = run.each("pulling", {name: (series, name) for name, series in items.items()}, work).kept
        return run.finish(images=[one.row for one in kept.values()])


def push(url: str, paths: Sequence[Path], *, listen: Listener = progress) -> dict[str, Any]:
    """Store DICOM files, and those in folders, in an archive.

    Args:
        url: of the archive, as for `pull`.
        paths: files or folders; other files of a folder are passed over.
        listen: hears of progress.

    Returns:
        `stored`, the paths; and `failed`, a row for each that the archive refused.

    Raises:
        ImageError: a path that is not there or holds no DICOM file.
        SkiagraphError: no archive answers, or dicomweb-client is needed and absent.
    """
    files = list(_dicom_files(paths))
    client = _client(url)
    stored, failed = [], []
    with listen("storing", len(files)) as update:
        for number, file in enumerate(files, start=1):
            with _asked(url):
                answer = client.store_instances([dcmread(file)])
            refused = answer.get("FailedSOPSequence")
            if refused:
                failed.append({"source": str(file), "error": f"{file} was refused, reason {refused[0].FailureReason}"})
            else:
                stored.append(str(file))
            update(number)
    return {"stored": stored, "failed": failed}


def _client(url: str) -> Any:
    try:
        from dicomweb_client import DICOMwebClient
    except ModuleNotFoundError as error:
        raise SkiagraphError("archives need dicomweb-client; run: pip install 'skiagraph[dicomweb]'") from error
    try:
        return DICOMwebClient(url)
    except (TypeError, ValueError) as error:
        raise DataError(f"{url!r} is no address of an archive ({error}); give http://HOST:PORT/PATH") from error


@contextmanager
def _asked(url: str) -> Iterator[None]:
    """What an archive's silence or refusal is to the user."""
    from requests import HTTPError, RequestException

    try:
        yield
    except HTTPError as error:
        raise SkiagraphError(f"{url} answers: {one_line(error)}") from error
    except RequestException as error:
        raise SkiagraphError(f"no archive answers at {url}; is it running, and is the address right?") from error


def _dicom_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise ImageError(f"{path} does not exist")
        listed = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found = [file for file in listed if _is_file(file)]
        if not found:
            raise ImageError(f"{path} is no DICOM file, or a folder without one")
        yield from found


def _is_file(path: Path) -> bool:
    try:
        dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    except (InvalidDicomError, OSError):
        return False
    return True
