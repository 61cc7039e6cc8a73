"""The equations beside diffusers' schedulers and beside themselves, one number at a time."""

import pytest
import torch
from diffusers import DDIMScheduler

from skiagraph.models.noising import add_noise, clean_from_noise, dual_loss

TIMESTEPS = torch.tensor([0, 50, 500, 999])


@pytest.fixture
def scheduler():
    return DDIMScheduler(beta_start=0.0015, beta_end=0.0155, beta_schedule="scaled_linear", clip_sample=False)


@pytest.fixture
def latents():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 3, 5, 5, generator=generator, dtype=torch.float64)


def abar_by_hand(t):
    """Betas are squares of a straight line from sqrt(.0015) to sqrt(.0155)."""
    product = 1.0
    for i in range(t + 1):
        root = 0.0015**0.5 + (0.0155**0.5 - 0.0015**0.5) * i / 999
        product *= 1 - root**2
    return product


def abars():
    return torch.tensor([abar_by_hand(t) for t in TIMESTEPS.tolist()], dtype=torch.float64).view(-1, 1, 1, 1)


def test_forward_noising_is_that_of_diffusers(scheduler, latents):
    clean, noise = latents
    torch.testing.assert_close(
        add_noise(clean, noise, abars()), scheduler.add_noise(clean, noise, TIMESTEPS), atol=1e-5, rtol=1e-5
    )


def test_one_step_is_what_ddim_says_of_the_clean_latent(scheduler, latents):
    clean, noise = latents
    noisy = add_noise(clean, noise, abars())
    scheduler.set_timesteps(1000)
    for index, t in enumerate(TIMESTEPS):
        ours = clean_from_noise(noisy[index], noise[index] + 0.1, abars()[index])
        theirs = scheduler.step(noise[index] + 0.1, t, noisy[index]).pred_original_sample
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)


def test_the_clean_latent_comes_back(latents):
    clean, noise = latents
    noisy = add_noise(clean, noise, abars())
    torch.testing.assert_close(clean_from_noise(noisy, noise, abars()), clean)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_dual_loss_is_a_multiple_of_the_error_of_the_noise(latents, weight):
    clean, noise = latents
    noisy, predicted_noise = add_noise(clean, noise, abars()), noise + 0.1 * clean.roll(1)
    predicted = clean_from_noise(noisy, predicted_noise, abars())
    loss = dual_loss(noisy, clean, predicted, abars(), noise_weight=1, latent_weight=weight)
    as_published = (noise - predicted_noise).abs().mean() + weight * (clean - predicted).abs().mean()
    closed = ((1 + weight * (1 / abars() - 1).sqrt()) * (noise - predicted_noise).abs()).mean()
    torch.testing.assert_close(loss, as_published)
    torch.testing.assert_close(loss, closed)


def test_of_the_latent_alone(latents):
    clean, other = latents
    loss = dual_loss(clean, clean, other, abars(), noise_weight=0, latent_weight=2)
    torch.testing.assert_close(loss, 2 * (clean - other).abs().mean())
