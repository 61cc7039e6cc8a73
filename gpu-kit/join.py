"""Put the parts of a model that `run` left together: a model folder, to generate with or as a recipe's `start_from`.

python gpu-kit/join.py shards runs/from-gpu --draw-with cxr-256/perceptual_vae
"""

from __future__ import annotations

import argparse
from pathlib import Path

from parts import join


def main() -> None:
    """Join, and give the model its perceptual decoder, which does not travel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path, help="folder of model.*.part")
    parser.add_argument("model", type=Path, help="folder to be made")
    parser.add_argument("--draw-with", help="perceptual decoder of the same latents: a folder, or a shipped model's")
    args = parser.parse_args()
    join(list(args.parts.glob("model.*.part")), args.model)
    if args.draw_with:
        import torch

        from skiagraph.models.registry import load_component
        from skiagraph.pipelines.text_to_image import TextToImagePipeline

        pipeline = TextToImagePipeline.load(args.model)
        pipeline.register_modules(perceptual_vae=load_component(args.draw_with))
        pipeline.to(dtype=torch.float16).save_pretrained(args.model)


if __name__ == "__main__":
    main()
