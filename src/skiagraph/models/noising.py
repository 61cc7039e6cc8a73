"""Forward noising, what a prediction says of the clean latent, and the loss of both: equations of latent diffusion.

Everywhere `abar` is the cumulative product of 1 - beta at the timestep, in (0, 1), shaped to broadcast with latents.
"""

from __future__ import annotations

from torch import Tensor


def add_noise(clean: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """DDPM (arXiv 2006.11239, eq. 4): z_t = sqrt(abar) z_0 + sqrt(1 - abar) eps, of tensors of one shape."""
    return abar.sqrt() * clean + (1 - abar).sqrt() * noise


def clean_from_noise(noisy: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """SynDiff (arXiv 2507.15361): z~_0 = (z_t - sqrt(1 - abar) eps^) / sqrt(abar), the clean latent in one step."""
    return (noisy - (1 - abar).sqrt() * noise) / abar.sqrt()


def dual_loss(
    noisy: Tensor, clean: Tensor, predicted_clean: Tensor, abar: Tensor, *, noise_weight: float, latent_weight: float
) -> Tensor:
    """SynDiff's loss: noise_weight |eps - eps^| + latent_weight |z_0 - z~_0|, L1, a mean over all elements.

    As z~_0 and eps^ follow from each other, the two terms differ by a factor that depends on the timestep alone:
    |z_0 - z~_0| = sqrt(1 / abar - 1) |eps - eps^|. With both weights 1 it is (1 + sqrt(1 / abar - 1)) |eps - eps^|.
    """
    error = (clean - predicted_clean).abs()
    return ((noise_weight * (abar / (1 - abar)).sqrt() + latent_weight) * error).mean()
