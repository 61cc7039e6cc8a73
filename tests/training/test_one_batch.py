"""Every task learns one batch by heart: its loss, gradients and optimisers point the right way."""

import pytest
import torch

import phantoms
import tiny
from skiagraph.training.recipe import load_recipe
from skiagraph.training.tasks import make_task

SIZES = {
    "autoencoder": "model: {latent_channels: 4, block_out_channels: [16, 16], decoder_layers: 1}",
    "segmenter": "channels: [8, 16, 16]\naugmentation: 0",
    "latent_segmenter": (
        "model: {patch: 8, mask_coefficients: 3, vision_coefficients: 4, vision_channels: 8,"
        " denoiser_channels: [16, 32]}\naugmentation: 0"
    ),
    "classifier": "channels: [8, 16, 16]\naugmentation: 0",
    "text_to_image": (
        "autoencoder: {parts}/autoencoder\ndenoiser: {{hidden_size: 16, depth: 2, num_heads: 2, patch_size: 2}}\n"
        "text: {{max_length: 24, hidden_size: 24, layers: 1, vocab_size: 300}}\ngrounding_weight: 0.1\n"
        "captions: {{segmenter: {parts}/segmenter}}"
    ),
    "inpainting": (
        "autoencoder: {parts}/autoencoder\ndenoiser: {{hidden_size: 16, depth: 2, num_heads: 2, patch_size: 2}}\n"
        "text: {{max_length: 24, hidden_size: 24, layers: 1, vocab_size: 300}}"
    ),
}
"""The smallest networks of each task; fine-tuning, and the perceptual decoder, which plays a critic, have their own."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return phantoms.dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    tiny.autoencoder().save_pretrained(folder / "autoencoder")
    tiny.lung_segmenter().save_pretrained(folder / "segmenter")
    return folder


@pytest.mark.parametrize("kind", SIZES)
def test_the_loss_of_one_batch_falls(kind, tmp_path, root, parts):
    sizes = SIZES[kind].format(parts=parts) if "{parts}" in SIZES[kind] else SIZES[kind]
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"task: {kind}\n{sizes}\ndata: {{datasets: [phantoms], root: {root}, image_size: 64, fit: squash}}\n"
        "optim: {steps: 1, batch_size: 4, learning_rate: 1.0e-3, precision: float32}\n"
    )
    task = make_task(load_recipe(path), tmp_path / "run")
    model = task.model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(60):
        torch.manual_seed(0)
        loss, _ = task.loss(model, 4, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0], f"{losses[0]:.3f} to {losses[-1]:.3f}"
