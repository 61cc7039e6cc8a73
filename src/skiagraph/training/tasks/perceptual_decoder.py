"""Training of a decoder whose pictures look real, where the faithful one's are the mean of what might be there.

A faithful decoder is as near as it can be to each picture, and so leaves out what latents do not say. This one draws
it. It learns on real latents with noise, which have a picture to be near to, and on a denoiser's samples, which have
none.
"""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from skiagraph.devices import fast_bfloat16
from skiagraph.domains.domain import load_domain
from skiagraph.errors import RecipeError
from skiagraph.files import atomic_path
from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.models.registry import load_component
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.progress import progress
from skiagraph.training.images import load_images, random_indices, record_weight, records_of, to_model_range
from skiagraph.training.perceptual import PerceptualLoss, random_crops
from skiagraph.training.recipe import EnlargerRecipe, PerceptualDecoderRecipe

CHUNK = 32


class PerceptualDecoderTask:
    """`PerceptualLoss` of decoded latents; those of a denoiser's samples must encode to the samples' coefficients."""

    def __init__(self, recipe: PerceptualDecoderRecipe, cache: Path, device: torch.device) -> None:
        self.recipe = recipe
        autoencoder = load_component(recipe.autoencoder)
        if not isinstance(autoencoder, SmallAutoencoderKL):
            raise RecipeError(f"autoencoder {recipe.autoencoder} is no SmallAutoencoderKL; its encoder must be linear")
        records, val = records_of(recipe, "train"), records_of(recipe, "val")
        self.weights = torch.tensor([record_weight(r, recipe.sampling) for r in records])
        prompts = list(map(load_domain(recipe.domain).record_prompt, records))
        with PartialState().main_process_first():
            self.bank = sample_bank(recipe, prompts, self.weights, cache / "bank", device)
        self.train = load_images(records, recipe.data.image_size, recipe.data.fit)
        self.val = load_images(val[:: max(1, len(val) // 96)], recipe.data.image_size, recipe.data.fit)
        if recipe.finish_channels:
            autoencoder = with_finish(autoencoder, recipe.finish_channels)
        autoencoder.encoder.requires_grad_(False)
        self.perceptual = PerceptualLoss(recipe.losses)
        parts = {"autoencoder": autoencoder, "critic": self.perceptual.critic()}
        self.model = nn.ModuleDict(parts).to(memory_format=torch.channels_last)
        self.device = device

    def to(self, device: torch.device) -> None:
        self.device = device
        self.perceptual.to(device)

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        parts = getattr(model, "module", model)
        half = batch_size // 2
        images, latents = self._real_crops(parts["autoencoder"], half, generator)
        made = self._crops(self.bank[random_indices(len(self.bank), half, generator)], generator)
        latents = torch.cat([latents, made.to(latents)])
        latents = latents * self._seen(batch_size, generator)
        decoded = parts["autoencoder"].decode(latents, generator=generator).sample.float()

        def inconsistency(pixels: Tensor) -> Tensor:
            returned = parts["autoencoder"].encode(pixels).latent_dist.mode()
            known = latents[half:] != 0
            return ((returned - latents[half:]).abs() * known).sum() / known.sum().clamp_min(1)

        return self.perceptual(parts["critic"], decoded, images, inconsistency, generator)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """PSNR and distance of features (of the network that it learns from) of reconstructions."""
        squared, features = [], []
        seen = self.recipe.seen_channels
        for chunk in self.val.split(16):
            images = to_model_range(chunk).to(self.device)
            latents = model["autoencoder"].encode(images).latent_dist.mode()
            latents[:, seen:] = 0
            decoded = model["autoencoder"].decode(latents).sample.float().clamp(-1, 1)
            squared.append((decoded - images).square().mean(dim=(1, 2, 3)))
            features.append(self.perceptual.distance(decoded, images))
        psnr = (10 * torch.log10(4 / torch.cat(squared))).mean()
        return {"val_psnr": float(psnr), "val_features": float(torch.cat(features).mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        autoencoder = model["autoencoder"]
        autoencoder.register_to_config(seen_channels=self.recipe.seen_channels)
        autoencoder.half().save_pretrained(folder)

    def _real_crops(self, autoencoder: nn.Module, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Crops (count, 1, side, side) of training images on the grid of patches, and latents of them with noise."""
        chosen = random_indices(len(self.train), count, generator, self.weights)
        images = self._crops(to_model_range(self.train[chosen]), generator, autoencoder.downscale).to(self.device)
        with torch.no_grad():
            latents = autoencoder.encode(images).latent_dist.mode()
        size = self.recipe.latent_noise * torch.rand(count, 1, 1, 1, generator=generator)
        return images, latents + (torch.randn(latents.shape, generator=generator) * size).to(latents)

    def _crops(self, planes: Tensor, generator: Generator, grid: int = 1) -> Tensor:
        """A square of `crop` pixels out of each of (n, c, H, W), which are `grid` pixels to a latent pixel."""
        return random_crops(planes, self.recipe.crop // self.model["autoencoder"].downscale, generator, grid)

    def _seen(self, count: int, generator: Generator) -> Tensor:
        """Which latent channels each of a batch shows, (count, channels, 1, 1) of zeros and ones."""
        kept = torch.tensor(self.recipe.train_channels)
        kept = kept[torch.randint(len(kept), (count,), generator=generator)]
        channels = torch.arange(self.bank.shape[1])
        return (channels < kept[:, None]).float()[..., None, None].to(self.device)


def with_finish(autoencoder: SmallAutoencoderKL, channels: int) -> SmallAutoencoderKL:
    """The same autoencoder with layers of so many channels at the image's full size, which change nothing yet."""
    chosen = {name: value for name, value in autoencoder.config.items() if not name.startswith("_")}
    made = SmallAutoencoderKL(**{**chosen, "finish_channels": channels})
    made.load_state_dict(autoencoder.state_dict(), strict=False)
    return made


def sample_bank(
    recipe: PerceptualDecoderRecipe | EnlargerRecipe,
    prompts: list[str],
    weights: Tensor,
    cache: Path,
    device: torch.device,
) -> Tensor:
    """Latents (n, c, h, w), as decoders take them, of the recipe's generator, from training label rows.

    Rows are drawn by the weights of their images, so that both halves of a batch have one mix of patients.

    Kept in files of `CHUNK` in the folder `cache`, so that a stopped run goes on where it was.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = [cache / f"{start:05d}.safetensors" for start in range(0, recipe.bank, CHUNK)]
    missing = [f for f in files if not f.is_file()]
    if missing:
        dtype = torch.bfloat16 if fast_bfloat16(device) else torch.float32
        pipeline = TextToImagePipeline.load(recipe.generator, dtype=dtype, device=str(device))
        pipeline.set_progress_bar_config(disable=True)
        with progress("sampling", len(files), done=len(files) - len(missing)) as update:
            for done, path in enumerate(missing, start=len(files) - len(missing) + 1):
                seeds = [int(path.stem) + i for i in range(CHUNK)]
                generator = Generator().manual_seed(seeds[0])
                rows = random_indices(len(prompts), CHUNK, generator, weights).tolist()
                latents = pipeline(
                    [prompts[i] for i in rows], seeds=seeds, num_inference_steps=recipe.bank_steps, output_type="latent"
                ).images
                config = pipeline.vae.config
                latents = latents / config.scaling_factor + config.shift_factor
                with atomic_path(path) as temporary:
                    save_file({"latents": latents.half().cpu()}, temporary)
                update(done, "")
    return torch.cat([load_file(f)["latents"] for f in files]).float()
