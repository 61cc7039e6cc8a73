"""One file per trained thing, and which recipe trains which."""

from __future__ import annotations

from pathlib import Path

import torch

from skiagraph.training.loop import Task
from skiagraph.training.recipe import Recipe


def make_task(recipe: Recipe, output: Path, device: torch.device | None = None) -> Task:
    """The task a recipe names, initialised by its seed.

    What it computes once and keeps goes to `output/cache`: the main process of several computes it, on `device` (the
    CPU where None).
    """
    device = device or torch.device("cpu")
    torch.manual_seed(recipe.seed)
    if recipe.task == "autoencoder":
        from skiagraph.training.tasks.autoencoder import AutoencoderTask

        return AutoencoderTask(recipe)
    if recipe.task == "perceptual_decoder":
        from skiagraph.training.tasks.perceptual_decoder import PerceptualDecoderTask

        return PerceptualDecoderTask(recipe, output / "cache", device)
    if recipe.task == "enlarger":
        from skiagraph.training.tasks.enlarger import EnlargerTask

        return EnlargerTask(recipe, output / "cache", device)
    if recipe.task == "segmenter":
        from skiagraph.training.tasks.segmenter import SegmenterTask

        return SegmenterTask.from_recipe(recipe)
    if recipe.task == "latent_segmenter":
        from skiagraph.training.tasks.latent_segmenter import LatentSegmenterTask

        return LatentSegmenterTask.from_recipe(recipe)
    if recipe.task == "classifier":
        from skiagraph.training.tasks.classifier import ClassifierTask

        return ClassifierTask.from_recipe(recipe)
    if recipe.task == "inpainting":
        from skiagraph.training.tasks.inpainting import InpaintingTask

        return InpaintingTask(recipe)
    if recipe.task == "fine_tune":
        from skiagraph.training.tasks.fine_tune import FineTuneTask

        return FineTuneTask(recipe, device)
    from skiagraph.training.tasks.text_to_image import TextToImageTask

    return TextToImageTask(recipe, output / "cache", device)
