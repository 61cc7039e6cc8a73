"""What a study makes itself, as data sets: whole images of texts, and real cases painted or edited."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from skiagraph.data.datasets import FOLDER_COLUMNS, Record, write_folder
from skiagraph.devices import AUTO
from skiagraph.domains.domain import Domain, model_domain
from skiagraph.engine.augment import AugmentConfig, Prompt, augment
from skiagraph.engine.edit import EditConfig, edit
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.engine.pairs import PairsConfig, make_pairs
from skiagraph.engine.picture_sets import text_of
from skiagraph.errors import DataError, NothingKept, ReportError
from skiagraph.models.registry import DEFAULT_MODEL, model_folder, not_drawn
from skiagraph.progress import Listener, silent

MADE, PAINTED, EDITED = "made", "painted", "edited"
"""Ways of making cases, and names of the sets: images of texts; inside real masks; of real images."""

PAINTED_EACH = 2
"""Most painted images of a real case: of 50 real cases, more than two each gained nothing."""


@dataclass(frozen=True)
class Request:
    """What is to be made: `count` images of `prompts`, or of `own`, real cases in the order in which arms take them.

    Of an own case nothing is used but by arms that train on it.
    """

    prompts: tuple[str, ...]
    own: Sequence[Record]
    count: int
    classes: tuple[str, ...] = ()
    model: str = DEFAULT_MODEL
    dtype: str = "float32"
    device: str = AUTO

    @property
    def domain(self) -> Domain:
        """That of the model's pictures."""
        return model_domain(model_folder(self.model))

    def check(self, channels: int) -> None:
        """Refuse a model of grey pictures for cases in colour."""
        autoencoder = model_folder(self.model) / "vae" / "config.json"
        config = json.loads(autoencoder.read_text(encoding="utf-8")) if autoencoder.is_file() else {}
        if channels == 3 and config.get("in_channels") == 1:
            raise DataError(
                f"{self.model} makes grey pictures and the cases are in colour; give another --model, or sets "
                "that were made before by --synthetic"
            )


Maker = Callable[[Request, Path, Listener], None]
"""Writes a data set into a folder; one that was cut off goes on."""


def pairs(request: Request, folder: Path, listen: Listener) -> None:
    """Images of the prompts with masks of the classes."""
    config = PairsConfig(
        request.prompts, request.count, request.classes, request.model, dtype=request.dtype, device=request.device
    )
    make_pairs(config, folder, listen=listen)


def images(request: Request, folder: Path, listen: Listener) -> None:
    """Images of the prompts, whose findings are their labels."""
    asked = request.prompts[: request.count]
    each = -(-request.count // len(asked))
    config = GenerateConfig(asked, request.model, each, dtype=request.dtype, device=request.device)
    generate(config, folder, listen=listen)


def painted(request: Request, folder: Path, listen: Listener) -> None:
    """Own cases painted inside their masks, by prompts drawn at random."""
    source = folder.with_name("own") / request.own[0].dataset
    write_folder(source, map(_row, request.own))
    ratio = min(PAINTED_EACH, request.count / len(request.own))
    prompts = tuple(map(Prompt, request.prompts))
    config = AugmentConfig(str(source), prompts, ratio, request.model, dtype=request.dtype, device=request.device)
    augment(config, folder, listen=listen)


def edited(request: Request, folder: Path, listen: Listener) -> None:
    """Own cases that get another one's findings; kept where the classifier of findings sees every change."""
    wishes = list(_wishes(request))[: request.count]
    if not wishes:
        raise DataError("no case can be edited: their labels or reports differ in nothing that the model draws")
    rows = [{"image": case.path.resolve(), "to": to, "from": source} for case, _, to, source in wishes]
    table = folder.with_name("own") / "wishes.csv"
    write_folder(table.parent, rows, ("image", "to", "from"), table.name)
    config = EditConfig(str(table), model=request.model, dtype=request.dtype, device=request.device)
    done = {row["folder"]: row["frames"][-1] for row in edit(config, folder, listen=listen)["edits"]}
    kept = []
    for number, (case, other, _, _) in enumerate(wishes):
        frame = done.get(f"{number:05d}-{case.path.stem}")
        if frame is not None and all(read["done"] for read in frame["read"]):
            known = {name: getattr(case, name) for name in ("patient", "view", "age", "sex", "hospital")}
            kept.append(
                {**known, "file": frame["file"], "split": "train", "labels": "|".join(sorted(other.labels)),
                 "source": case.key}
            )  # fmt: skip
    if not kept:
        raise NothingKept(f"a classifier saw the changes of none of {len(wishes)} edits; leave this way of making out")
    write_folder(folder, kept, ("file", "patient", "split", "labels", "view", "age", "sex", "hospital", "source"))


MAKERS: Mapping[str, Mapping[str, Maker]] = {
    "segment": {MADE: pairs, PAINTED: painted},
    "classify": {MADE: images, EDITED: edited},
}
"""Ways of making cases by what they are to train."""


def seconds_each(maker: Maker, request: Request) -> float:
    """Seconds that one more image takes here: of three, less those of one, so that loading is not counted.

    So few may all fail to pass what they must pass, which takes as long.
    """
    took = []
    for count in (1, 3):
        began = time.perf_counter()
        with TemporaryDirectory() as folder, suppress(NothingKept):
            maker(replace(request, count=count), Path(folder) / "made", silent)
        took.append(time.perf_counter() - began)
    return max(0.0, took[1] - took[0]) / 2


def _row(record: Record) -> dict[str, object]:
    mask = record.mask.resolve() if record.mask else ""
    return dict(zip(FOLDER_COLUMNS, (record.path.resolve(), record.patient, "train", "", mask), strict=True))


def _wishes(request: Request) -> Iterator[tuple[Record, Record, str, str]]:
    """Cases, those whose findings they are to get, and the texts of both; of each the first that differs."""
    domain, unable = request.domain, not_drawn(model_folder(request.model))
    rng = random.Random(0)
    for number, case in enumerate(request.own):
        source = text_of(case, domain)
        for other in rng.sample(list(request.own[:number]), number):
            to = text_of(replace(other, view=case.view, age=case.age, sex=case.sex), domain)
            if _can_be(domain, to, source, unable):
                yield case, other, to, source
                break


def _can_be(domain: Domain, to: str, source: str, unable: frozenset[str]) -> bool:
    try:
        wish = domain.edits.read_wish(to, source)
    except ReportError:
        return False
    return not unable & {finding.name for finding in wish.come}
