"""Latents of an autoencoder as features."""

import numpy as np
import torch

import tiny
from skiagraph.evaluation.extractors import is_autoencoder, load_extractor
from skiagraph.models.registry import load_component


def test_a_part_of_a_shipped_model_gives_its_latents():
    images = np.random.default_rng(0).uniform(size=(3, 256, 256)).astype(np.float32)
    extractor = load_extractor("cxr-256/vae")
    assert extractor.name == "latents:cxr-256/vae"
    found = extractor.features(images)
    with torch.no_grad():
        latents = load_component("cxr-256/vae").encode(torch.from_numpy(images)[:, None] * 2 - 1).latent_dist.mode()
    by_hand = latents.reshape(3, -1, 8, 2, 8, 2).mean(dim=(3, 5)).flatten(1).numpy()
    assert np.allclose(found, by_hand, atol=1e-5)


def test_diffusers_autoencoder_of_three_channels_does_as_well(tmp_path):
    tiny.colour_autoencoder().save_pretrained(tmp_path / "kl")
    assert is_autoencoder(str(tmp_path / "kl"))
    assert not is_autoencoder("cxr-256")
    extractor = load_extractor(str(tmp_path / "kl"))
    assert extractor.name == "latents:kl"
    features = extractor.features(np.zeros((2, 64, 64), np.float32))
    assert features.shape[0] == 2
    assert np.allclose(features[0], features[1])
