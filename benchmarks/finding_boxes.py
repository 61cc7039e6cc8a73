"""Do words of findings point to where radiologists drew them? On the NIH images with boxes; no box trained anything.

    python benchmarks/finding_boxes.py --data DIR -o out/boxes

Each image is noised to several levels and given to the denoiser once with its label row as prompt; the map of the
finding's words hits if its highest place lies in a box of that finding. Chance is the box's share of the picture, and a
harder chance its share of the box around both lungs, where any word might point. Images of training patients are told
apart from others.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Generator

from machine import machine
from skiagraph.attention.adapter import adapter_of
from skiagraph.attention.heatmaps import capture_words, word_spans
from skiagraph.data.chest.captions import WORDINGS, record_prompt
from skiagraph.data.datasets import Record, data_root, load_records
from skiagraph.data.images import read_radiograph, square
from skiagraph.evaluation import bootstrap
from skiagraph.evaluation.statistics import paired_difference
from skiagraph.files import write_json
from skiagraph.models.registry import DEFAULT_MODEL, load_component
from skiagraph.pipelines.organs import find_lungs
from skiagraph.pipelines.text_to_image import TextToImagePipeline

SIDE, BOX_SIDE = 256, 1024
TIMESTEPS = (300, 450, 600, 750)
LABELS = {"infiltrate": "infiltration"}
"""Findings that the table of boxes calls otherwise than the table of labels."""


def main() -> None:
    """Print the hit rate and its chances by finding, beside the first model's, and write results.json."""
    args = _arguments()
    records = {r.path.stem: r for r in load_records(["nih_chestxray14", "nih_chestxray14_more"], args.data)}
    cases = _cases(data_root(args.data) / "nih_chestxray14_more/boxes.csv", records)
    results: dict[str, dict] = {}
    first: list[dict] = []
    for model in args.model:
        rows = _rows(model, cases, records)
        first = first or rows
        hits, patients = (np.array([r[name] for r in rows]) for name in ("hit", "patient"))
        gain = paired_difference("hit", hits, np.array([r["hit"] for r in first]), patients, "higher")
        groups = {"all": rows, **{f"trained on: {t}": [r for r in rows if r["trained on"] == t] for t in (True, False)}}
        groups |= {name: [r for r in rows if r["finding"] == name] for name in sorted({r["finding"] for r in rows})}
        results[model] = {name: _summary(members) for name, members in groups.items() if members}
        for name, s in results[model].items():
            hit = f"{s['hit']:.2f} ({s['low']:.2f} to {s['high']:.2f})"
            print(f"{name}: n {s['n']}, hit {hit}, chance {s['chance']:.2f}, in the thorax {s['chance in thorax']:.2f}")
        print(f"{model} over {args.model[0]}: {gain.shown(2)}")
        results[model]["over the first"] = gain.to_dict()
    write_json(args.output / "results.json", {"machine": machine(), "results": results})


@torch.no_grad()
def _rows(model: str, cases: dict[tuple[str, str], np.ndarray], records: dict[str, Record]) -> list[dict]:
    """One row for each boxed finding: whether its words hit, and how likely that is by chance."""
    pipeline = TextToImagePipeline.load(model)
    segmenter = load_component("lung-segmenter").eval()
    rows = []
    for (stem, label), truth in cases.items():
        record = records[stem]
        image = square(read_radiograph(record.path).pixels, SIDE, fit="crop")
        heat = _heat(pipeline, image, record_prompt(record), WORDINGS[label][0])
        stored = torch.from_numpy(np.round(image * 255).astype(np.uint8))[None, None]
        thorax = _thorax(find_lungs(segmenter, stored)[0].numpy() > 0)
        rows.append(
            {
                "finding": label, "patient": record.patient, "trained on": record.split == "train",
                "hit": float(truth[np.unravel_index(heat.argmax(), heat.shape)]),
                "chance": float(truth.mean()), "chance in thorax": float(truth[thorax].mean()),
            }
        )  # fmt: skip
    return rows


def _cases(path: Path, records: dict[str, Record]) -> dict[tuple[str, str], np.ndarray]:
    """Boxes as bool (SIDE, SIDE) by image and finding, of findings that the image's label row names too."""
    found: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros((SIDE, SIDE), bool))
    with open(path, encoding="utf-8", newline="") as stream:
        for stem, finding, *numbers in list(csv.reader(stream))[1:]:
            label = LABELS.get(finding.lower(), finding.lower())
            stem = Path(stem).stem
            if stem in records and label in records[stem].labels:
                x, y, width, height = (float(v) * SIDE / BOX_SIDE for v in numbers)
                found[stem, label][round(y) : round(y + height), round(x) : round(x + width)] = True
    return dict(found)


@torch.no_grad()
def _heat(pipeline: TextToImagePipeline, image: np.ndarray, prompt: str, wording: str) -> np.ndarray:
    """Map (SIDE, SIDE) of the finding's words, a mean over noise levels."""
    phrase = " ".join(wording.format(side="", zone="").split()).replace(" on the", "")
    spans = word_spans(pipeline.tokenizer, [prompt], [[phrase]], pipeline.config.prompt_length)
    text, latents = pipeline.encode_prompts([prompt]), pipeline.encode(image[None])
    with capture_words(pipeline.denoiser, spans, adapter_of(pipeline.denoiser).pointing) as maps:
        for step in TIMESTEPS:
            noise = torch.randn(latents.shape, generator=Generator().manual_seed(step))
            noisy = pipeline.scheduler.add_noise(latents, noise, torch.tensor([step]))
            pipeline.predict_guided(noisy, torch.tensor(step), text, 1.0)
    return maps.combined((SIDE, SIDE))[0, 0].numpy()


def _thorax(lungs: np.ndarray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _summary(rows: list[dict]) -> dict[str, float]:
    hits = np.array([r["hit"] for r in rows], float)
    low, high = bootstrap(lambda a: float(a.mean()), hits)
    chances = {name: float(np.mean([r[name] for r in rows])) for name in ("chance", "chance in thorax")}
    return {"n": len(rows), "hit": float(hits.mean()), "low": low, "high": high, **chances}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/boxes"))
    parser.add_argument("--model", nargs="+", default=[DEFAULT_MODEL])
    return parser.parse_args()


if __name__ == "__main__":
    main()
