"""Training of a decoder whose pictures look real, where the faithful one's are the mean of what might be there.

A faithful decoder is as near as it can be to each picture, and so leaves out what latents do not say. This one draws
it. It learns on real latents with noise, which have a picture to be near to, and on a denoiser's samples, which have
none.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn
from torch.func import functional_call

from skiagraph.domains.domain import load_domain
from skiagraph.errors import RecipeError
from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.files import atomic_path
from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.models.critic import Critic, hinge_loss
from skiagraph.models.registry import load_component
from skiagraph.pipelines.text_to_image import TextToImagePipeline
from skiagraph.progress import progress
from skiagraph.training.images import load_images, random_indices, record_weight, records_of, to_model_range
from skiagraph.training.recipe import PerceptualDecoderRecipe

EXTRACTOR = "efficientnet-lite1"
"""The frozen network of the losses. Others judge the result."""

CHUNK = 32


class PerceptualDecoderTask:
    """L1 at a quarter of the size and features' distance to real pictures; a critic's opinion of all.

    What is decoded from a denoiser's sample must give back the sample's own coefficients. The critic's gradient is held
    at a share of the other losses' where they meet, at the decoded picture (arXiv 2012.09841, Eq. 7).
    """

    def __init__(self, recipe: PerceptualDecoderRecipe, cache: Path, device: torch.device) -> None:
        self.recipe, self.loss_recipe = recipe, recipe.losses
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
        self.extractor = ImageNetExtractor(EXTRACTOR)
        network = self.extractor.network.requires_grad_(False).to(memory_format=torch.channels_last)
        if recipe.finish_channels:
            autoencoder = with_finish(autoencoder, recipe.finish_channels)
        autoencoder.encoder.requires_grad_(False)
        with torch.no_grad():
            stages = self.extractor.stages(torch.zeros(1, 1, 64, 64))
        critic = Critic([s.shape[1] for s in stages[1:]])
        self.model = nn.ModuleDict({"autoencoder": autoencoder, "critic": critic}).to(memory_format=torch.channels_last)
        self.network = network
        self.device = device

    def to(self, device: torch.device) -> None:
        self.device = device
        self.network.to(device)

    def loss(self, model: nn.Module, batch_size: int, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        parts = getattr(model, "module", model)
        half = batch_size // 2
        images, latents = self._real_crops(parts["autoencoder"], half, generator)
        made = self._crops(self.bank[random_indices(len(self.bank), half, generator)], generator)
        latents = torch.cat([latents, made.to(latents)])
        latents = latents * self._seen(batch_size, generator)
        decoded = parts["autoencoder"].decode(latents, generator=generator).sample.float()
        with torch.no_grad():
            real_stages = self.extractor.stages(images)
        pixels = decoded.detach().requires_grad_()
        stages = self.extractor.stages(pixels)
        near, terms = self._nearness(parts["autoencoder"], pixels, stages, images, real_stages, latents)
        pull = torch.autograd.grad(near, pixels, retain_graph=True)[0]
        frozen = {name: p.detach() for name, p in parts["critic"].named_parameters()}
        scores = functional_call(parts["critic"], frozen, (pixels, stages[1:]))
        push = torch.autograd.grad(-torch.stack([s.mean() for s in scores]).mean(), pixels)[0]
        push = push * self.loss_recipe.critic * pull.norm() / push.norm().clamp_min(1e-12)
        to_decoder = (decoded * (pull + push)).sum()
        critic = hinge_loss(
            parts["critic"](images, real_stages[1:]), parts["critic"](pixels.detach(), [s.detach() for s in stages[1:]])
        )
        terms["critic"] = critic
        return to_decoder - to_decoder.detach() + near.detach() + critic, terms

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
            features.append(_feature_distance(self.extractor.stages(decoded), self.extractor.stages(images)))
        psnr = (10 * torch.log10(4 / torch.cat(squared))).mean()
        return {"val_psnr": float(psnr), "val_features": float(torch.cat(features).mean())}

    def export(self, model: nn.Module, folder: Path) -> None:
        autoencoder = model["autoencoder"]
        autoencoder.register_to_config(seen_channels=self.recipe.seen_channels)
        autoencoder.half().save_pretrained(folder)

    def _nearness(
        self, autoencoder: nn.Module, pixels: Tensor, stages: list[Tensor], images: Tensor, targets: list[Tensor],
        latents: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        weigh, half = self.loss_recipe, len(images)
        coarse = F.l1_loss(F.avg_pool2d(pixels[:half], 4), F.avg_pool2d(images, 4))
        fine = F.l1_loss(pixels[:half], images)
        features = _feature_distance([s[:half] for s in stages], targets).mean()
        returned = autoencoder.encode(pixels[half:]).latent_dist.mode()
        known = latents[half:] != 0
        consistency = ((returned - latents[half:]).abs() * known).sum() / known.sum().clamp_min(1)
        total = weigh.coarse * coarse + weigh.fine * fine + weigh.features * features + weigh.consistency * consistency
        return total, {"coarse": coarse, "fine": fine, "features": features, "consistency": consistency}

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
        side = self.recipe.crop // self.model["autoencoder"].downscale
        room = planes.shape[-1] // grid - side + 1
        corners = torch.randint(room, (len(planes), 2), generator=generator).tolist()
        return torch.stack(
            [
                p[:, y * grid : (y + side) * grid, x * grid : (x + side) * grid]
                for p, (y, x) in zip(planes, corners, strict=True)
            ]
        )

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
    recipe: PerceptualDecoderRecipe, prompts: list[str], weights: Tensor, cache: Path, device: torch.device
) -> Tensor:
    """Latents (n, c, h, w), as the decoder takes them, of the recipe's generator, from training label rows.

    Rows are drawn by the weights of their images, so that both halves of a batch have one mix of patients.

    Kept in files of `CHUNK` in the folder `cache`, so that a stopped run goes on where it was.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = [cache / f"{start:05d}.safetensors" for start in range(0, recipe.bank, CHUNK)]
    missing = [f for f in files if not f.is_file()]
    if missing:
        pipeline = TextToImagePipeline.load(recipe.generator, dtype=torch.bfloat16, device=str(device))
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


def _feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Squared distance (n,) of unit-length activations, a mean over places and stages (arXiv 1801.03924, Eq. 1)."""
    gaps = [
        (F.normalize(x.float(), dim=1) - F.normalize(y.float(), dim=1)).square().sum(dim=1).mean(dim=(-1, -2))
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(gaps).mean(dim=0)
