import pytest
import torch

from skiagraph.errors import ModelError
from skiagraph.models.autoencoder import SmallAutoencoderKL


def tiny():
    torch.manual_seed(0)
    return SmallAutoencoderKL(latent_channels=2, block_out_channels=(16, 16), decoder_layers=1).eval()


def test_shapes_follow_the_downscale():
    model = tiny()
    images = torch.rand(2, 1, 64, 32) * 2 - 1
    posterior = model.encode(images).latent_dist
    assert model.downscale == 8
    assert posterior.mode().shape == (2, 2, 8, 4)
    assert model.decode(posterior.mode()).sample.shape == images.shape


def test_posterior_sample_is_mean_plus_scaled_noise():
    posterior = tiny().encode(torch.rand(1, 1, 32, 32)).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(5))
    sample = posterior.sample(torch.Generator().manual_seed(5))
    torch.testing.assert_close(sample, posterior.mean + posterior.std * noise)


def test_it_learns_a_batch():
    model = tiny().train()
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = (model(images)[0] - images).abs().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("shape", [(1, 1, 30, 32), (1, 3, 32, 32), (1, 32, 32)])
def test_wrong_images_are_named(shape):
    with pytest.raises(ModelError, match="autoencoder: images are"):
        tiny().encode(torch.zeros(shape))


def test_round_trip(tmp_path):
    model = tiny()
    model.register_to_config(scaling_factor=0.5, shift_factor=0.1)
    model.save_pretrained(tmp_path)
    again = SmallAutoencoderKL.from_pretrained(tmp_path)
    assert (again.config.scaling_factor, again.config.shift_factor) == (0.5, 0.1)
    z = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(again.decode(z).sample, model.decode(z).sample)
