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


def with_grain():
    torch.manual_seed(0)
    model = SmallAutoencoderKL(latent_channels=2, block_out_channels=(16, 16), decoder_layers=1, finish_channels=4)
    torch.nn.init.normal_(model.finish.layers[-1].weight, std=0.1)
    return model.eval()


def seeds(*numbers):
    return [torch.Generator().manual_seed(n) for n in numbers]


def test_grain_is_an_images_own_and_its_generators():
    model, z = with_grain(), torch.randn(1, 2, 4, 4).expand(2, -1, -1, -1)
    with torch.no_grad():
        both = model.decode(z, generator=seeds(1, 2)).sample
        second = model.decode(z[:1], generator=seeds(2)).sample
        unseeded = model.decode(z).sample
    torch.testing.assert_close(both[1:], second)
    assert not torch.allclose(both[0], both[1], atol=1e-3)
    torch.testing.assert_close(unseeded[0], unseeded[1])
    torch.testing.assert_close(unseeded, model.decode(z).sample)


def test_new_finishing_layers_change_nothing():
    plain = tiny()
    made = SmallAutoencoderKL.from_config({**plain.config, "finish_channels": 4})
    missing, unexpected = made.load_state_dict(plain.state_dict(), strict=False)
    assert all(name.startswith("finish.") for name in missing)
    assert not unexpected
    z = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(made.decode(z, generator=seeds(3, 4)).sample, plain.decode(z).sample)


def test_one_plane_of_noise_is_half_as_fine():
    model, seen = with_grain(), []
    model.finish.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -2:]))
    with torch.no_grad():
        model.decode(torch.zeros(1, 2, 4, 4), generator=seeds(0))
    fine, coarse = seen[0][0]
    squares = coarse.unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
    assert (squares == squares[..., :1]).all()
    assert fine.std() == pytest.approx(1, abs=0.1)
    assert coarse.std() == pytest.approx(1, abs=0.2)
