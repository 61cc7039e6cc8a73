"""Do pictures at twice the side look like radiographs of that side? An enlarger beside bicubic interpolation.

    python benchmarks/enlarger.py --enlarger runs/enlarger/model -o out/enlarger

Small pictures are of n adults of a split, one each: samples of the model for their label rows, and their radiographs,
made small, as the model's encoder and decoder give them back. Each is enlarged in both ways and compared with the
radiographs at full size by judges that the enlarger was not trained against. The floor is as many radiographs of
training patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Generator

from decoders import patients_of, sampled
from held_out import squares
from machine import machine
from skiagraph.evaluation import kernel_distance, sliced_wasserstein, two_sample_test
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.files import write_json
from skiagraph.models.enlarger import Enlarger
from skiagraph.models.registry import DEFAULT_MODEL, load_component
from skiagraph.pipelines.text_to_image import TextToImagePipeline

ADULTS = ("nih_chestxray14", "nih_chestxray14_more", "montgomery")
NETWORKS = ("efficientnet-lite0", "efficientnet-lite2")
SHOWN = 4


def main() -> None:
    """Make the sets, judge each, print a row for it; results.json and examples.png."""
    args = _arguments()
    pipeline = TextToImagePipeline.load(args.model)
    pipeline.enlarger = load_component(args.enlarger).eval()
    records = patients_of(ADULTS, args.split, args)
    real = squares(records, 2 * pipeline.image_side, "crop")
    others = patients_of(ADULTS, "train", args)[: len(records)]
    grain = Generator().manual_seed(args.seed)
    shrunk = np.stack([_resized(x, pipeline.image_side, Image.Resampling.BOX) for x in real])
    small = {
        "radiographs drawn again": pipeline.draw(pipeline.encode(shrunk), grain),
        "generated": pipeline.draw(sampled(records, args), grain),
    }
    sets = {"radiographs of others": squares(others, real.shape[1], "crop")}
    for kind, pictures in small.items():
        sets[f"{kind}, bicubic"] = np.stack([_resized(x, real.shape[1], Image.Resampling.BICUBIC) for x in pictures])
        sets[f"{kind}, enlarged"] = pipeline.enlarge(pictures, grain)
    judges = [(e, e.features(real, batch_size=8)) for e in map(ImageNetExtractor, NETWORKS)]
    people = np.array([r.patient for r in records])
    rows = [_judged(name, real, pictures, judges, people, args.seed) for name, pictures in sets.items()]
    settings = {k: str(v) for k, v in vars(args).items()}
    write_json(args.output / "results.json", {"settings": settings, "machine": machine(), "rows": rows})
    shown = np.concatenate(
        [np.concatenate(list(sets[name][:SHOWN]), axis=1) for name in ("generated, bicubic", "generated, enlarged")]
    )
    Image.fromarray((255 * shown).astype(np.uint8)).save(args.output / "examples.png")


def _judged(
    name: str, real: np.ndarray, pictures: np.ndarray, judges: list[tuple[ImageNetExtractor, np.ndarray]],
    people: np.ndarray, seed: int,
) -> dict:  # fmt: skip
    """Distances of a set to the radiographs, whose features come with each judge; PSNR where it is made of them."""
    found = [kernel_distance(f, e.features(pictures, batch_size=8), extractor=e.name) for e, f in judges]
    found += sliced_wasserstein(real, pictures)[:2]
    found.append(two_sample_test(real, pictures, real_groups=people, synthetic_groups=people, seed=seed))
    numbers = {f"{m.name} {m.extractor or ''}".strip(): m.to_dict() for m in found}
    if name.startswith("radiographs drawn again"):
        numbers["PSNR"] = float(np.mean(-10 * np.log10(np.square(real - pictures).mean(axis=(1, 2)))))
    told = [f"{m.name} {m.extractor or ''} {m.shown(2)}" for m in found]
    print(name, *told, f"PSNR {numbers.get('PSNR', float('nan')):.2f}", sep="; ", flush=True)
    return {"what": name, "n": len(pictures), "measures": numbers}


def _resized(pixels: np.ndarray, side: int, how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels.astype(np.float32)).resize((side, side), how)).clip(0, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of the dataset folders; default $SKIAGRAPH_DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/enlarger"))
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--enlarger", required=True, help=f"folder of an {Enlarger.__name__}")
    parser.add_argument("--split", default="val", choices=["val", "test"])
    parser.add_argument("--n", type=int, default=150)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
