"""Training of the one-step latent segmenter on pairs of image and mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Generator, Tensor, nn

from skiagraph.errors import ModelError
from skiagraph.models.latent_segmenter import TIMESTEPS, LatentSegmenter
from skiagraph.models.mask_codec import KLCodec, PatchCodec
from skiagraph.models.noising import add_noise, dual_loss
from skiagraph.models.registry import load_component
from skiagraph.training.images import random_indices, to_model_range
from skiagraph.training.recipe import LatentSegmenterRecipe
from skiagraph.training.tasks.autoencoder import patch_transform
from skiagraph.training.tasks.segmenter import Pairs, augmented, export_segmenter, splits_of, started, validation_dice

SHARPNESS = 5.0
"""Logits over scores where decoded masks have a loss: a score of 1 is a probability of 0.993."""

ENOUGH_TO_FIT = 500
"""About so many training pairs, evenly chosen, decide the transforms of masks and images."""


class LatentSegmenterTask:
    """SynDiff's dual loss (arXiv 2507.15361); the autoencoder of masks is fitted or loaded first and stays as it is.

    A share of every batch learns what the single step meets: pure noise in place of a noised mask.
    """

    def __init__(self, recipe: LatentSegmenterRecipe, train: Pairs, val: Pairs) -> None:
        self.recipe, self.train, self.val = recipe, train, val
        self.model = started(begin_model(recipe, train), recipe)
        self.criterion = DiceCELoss(to_onehot_y=True, softmax=True)
        self.device = torch.device("cpu")

    @classmethod
    def from_recipe(cls, recipe: LatentSegmenterRecipe) -> LatentSegmenterTask:
        """Trains on the data sets that the recipe names."""
        return cls(recipe, *splits_of(recipe))

    def to(self, device: torch.device) -> None:
        self.device = device

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        recipe = self.recipe
        chosen = random_indices(len(self.train[0]), batch_size, generator)
        images, masks = augmented(self.train, chosen, generator, recipe)
        clean = self.model.encode_masks(masks[:, 0].to(self.device))
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        timesteps = torch.randint(TIMESTEPS, (batch_size,), generator=generator)
        single = torch.rand(batch_size, generator=generator) < recipe.one_step_share
        timesteps = torch.where(single, recipe.timestep, timesteps).to(self.device)
        abar = self.model.abar(timesteps)
        noisy = torch.where(single.to(self.device).view(-1, 1, 1, 1), noise, add_noise(clean, noise, abar))
        predicted = model(noisy, timesteps, images.to(self.device))
        loss = dual_loss(
            noisy, clean, predicted, abar, noise_weight=recipe.noise_weight, latent_weight=recipe.latent_weight
        )
        if recipe.mask_weight:
            logits = SHARPNESS * self.model.decode_masks(predicted)
            loss = loss + recipe.mask_weight * self.criterion(logits, masks.to(self.device))
        return loss, {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Dice of every class after the single step."""
        return validation_dice(model, self.val, self.recipe.classes, self.device)

    def export(self, model: nn.Module, folder: Path) -> None:
        export_segmenter(model, self.recipe, self.val, folder)


def begin_model(recipe: LatentSegmenterRecipe, train: Pairs) -> LatentSegmenter:
    """A model with its frozen parts fitted to the training pairs, or loaded, and nothing else trained.

    Raises:
        ModelError: the recipe's autoencoder is not a diffusers AutoencoderKL.
    """
    sizes, autoencoder = recipe.model.model_dump(), None
    folder = sizes.pop("autoencoder")
    if folder is not None:
        autoencoder = load_component(folder)
        if type(autoencoder).__name__ != "AutoencoderKL":
            raise ModelError(f"{folder} is a {type(autoencoder).__name__}; masks need a diffusers AutoencoderKL")
    model = LatentSegmenter(
        ("background", *recipe.classes), recipe.in_channels, recipe.data.image_size,
        prediction_type=recipe.prediction_type, timestep=recipe.timestep, one_step_share=recipe.one_step_share,
        autoencoder=None if autoencoder is None else _configuration(autoencoder), **sizes,
    )  # fmt: skip
    images, labels = (part[:: max(1, len(part) // ENOUGH_TO_FIT)] for part in train)
    masks = _mask_pictures(labels, len(recipe.classes))
    if autoencoder is None:
        _fit(model.codec, masks)
        _fit(model.vision.patches, images.flatten(0, 1)[:, None])
    else:
        model.codec.autoencoder.load_state_dict(autoencoder.state_dict())
        model.vision.encoder.load_state_dict(autoencoder.encoder.state_dict())
        _scale(model.codec, masks)
    model.vision.requires_grad_(recipe.train_vision)
    if recipe.model.vision_network:
        model.vision.begin(recipe.model.vision_network)
    return model


def _configuration(autoencoder: nn.Module) -> dict[str, Any]:
    """What makes the network, without the names of the library and of the folder it came from."""
    return {name: value for name, value in autoencoder.config.items() if not name.startswith("_")}


def _mask_pictures(labels: Tensor, classes: int) -> Tensor:
    """uint8 (n * classes, 1, H, W), 255 inside, of label maps (n, 1, H, W)."""
    return torch.cat([(labels == index).to(torch.uint8) * 255 for index in range(1, classes + 1)])


def _fit(codec: PatchCodec, pictures: Tensor) -> None:
    codec.set_transform(*patch_transform(pictures, torch.ones(len(pictures)), codec.downscale, codec.channels))


def _scale(codec: KLCodec, masks: Tensor) -> None:
    latents = torch.cat([codec.encode(to_model_range(part)) for part in masks[:64].split(8)])
    codec.scale.copy_(1 / latents.std())
