"""Training recipes: YAML files validated by pydantic, one per trained thing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from skiagraph.errors import RecipeError
from skiagraph.files import given_or_shipped


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class DataConfig(_Strict):
    """Which images: `datasets` are keys of `skiagraph.data.datasets.READERS`; `root` defaults to $SKIAGRAPH_DATA."""

    datasets: list[str]
    root: str | None = None
    image_size: int = Field(256, ge=32)
    fit: Literal["pad", "crop", "squash"] = "crop"
    limit: int | None = Field(None, ge=1, description="use only the first so many images of each split")


class OptimConfig(_Strict):
    """Optimiser, averaging, precision and how often to log, validate and save.

    "muon" takes Muon (Jordan et al. 2024) for the weights of linear layers, AdamW for the rest. The networks' precision
    "auto" is bfloat16 where the machine computes in it (`devices.fast_bfloat16`), else float32.
    The schedule "linear" keeps the rate until `decay_steps` before the end and then lowers it to zero: a run without a
    known end goes on at a constant rate, and a copy of its checkpoint, given an end, becomes the finished model.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    gradient_accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(0.03, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    decay_steps: int = Field(0, ge=0, description='last steps, over which the schedule "linear" lowers the rate')
    max_grad_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    log_every: int = Field(50, ge=1)
    validate_every: int = Field(500, ge=0)
    checkpoint_minutes: float = Field(5.0, ge=0)
    tensorboard: bool = True


class _Recipe(_Strict):
    domain: str = Field("chest", description="name of a domain, or the path of its YAML file")
    seed: int = Field(0, ge=0)
    data: DataConfig
    optim: OptimConfig


class AffinityRecipe(_Strict):
    """An AffinityNet on labelled images at hand; made by the pairs job, not read from a file."""

    task: Literal["affinity"] = "affinity"
    seed: int = Field(0, ge=0)
    optim: OptimConfig
    channels: list[int] = [32, 64, 96]


class AutoencoderModel(_Strict):
    """`SmallAutoencoderKL` sizes."""

    latent_channels: int = 32
    block_out_channels: list[int] = [64, 128, 160]
    decoder_layers: int = 2
    noise: float = Field(0.25, gt=0)
    in_channels: Literal[1, 3] = 1


class AutoencoderRecipe(_Recipe):
    """A small KL autoencoder: its transform is computed, its decoder trained; loss = L1 + edge_weight * L1 of edges."""

    task: Literal["autoencoder"]
    model: AutoencoderModel = AutoencoderModel()
    sampling: dict[str, float] = Field({}, description="weights of datasets; 1 where absent")
    edge_weight: float = Field(1.0, ge=0)
    latent_noise: float = Field(0.5, ge=0, description="largest standard deviation of noise the decoder is to remove")


class PerceptualLosses(_Strict):
    """Weights of a perceptual network's losses; `critic` is its gradient's share of the others' at the picture."""

    coarse: float = Field(2.0, ge=0, description="of L1 at a quarter of the size")
    fine: float = Field(0.3, ge=0, description="of L1 at full size")
    features: float = Field(1.0, ge=0, description="of the frozen network's features")
    consistency: float = Field(0.5, ge=0, description="of a sample and what its picture is made back into")
    weave: float = Field(5.0, ge=0, description="of fine detail that repeats from patch to patch")
    critic: float = Field(0.8, ge=0)


class _PerceptualRecipe(_Recipe):
    """What makes generated pictures look real; batches are half real, half generated."""

    generator: str = Field(description="folder of the text-to-image model whose samples it learns on")
    bank: int = Field(640, ge=32, description="how many samples, rounded up to whole batches")
    bank_steps: int = Field(20, ge=1)
    crop: int = Field(160, ge=64, description="side of training crops in pixels, a multiple of 32; losses see 32 less")
    sampling: dict[str, float] = Field({}, description="weights of datasets and labels; 1 where absent")
    losses: PerceptualLosses = PerceptualLosses()


class PerceptualDecoderRecipe(_PerceptualRecipe):
    """A decoder for generated latents, from a trained autoencoder's."""

    task: Literal["perceptual_decoder"]
    autoencoder: str = Field(description="folder of the faithful autoencoder, from whose decoder this one starts")
    latent_noise: float = Field(0.4, ge=0)
    train_channels: list[int] = Field([6, 8, 12], description="numbers of first channels seen, drawn for each crop")
    seen_channels: int = Field(8, ge=1, description="number of first channels that the finished decoder sees")
    finish_channels: int = Field(0, ge=0, description="width of layers that draw grain out of noise at full size")


class EnlargerModel(_Strict):
    """`Enlarger` sizes."""

    width: int = Field(64, ge=8, multiple_of=8)
    layers: int = Field(4, ge=1)
    finish_channels: int = Field(16, ge=1)


class EnlargerRecipe(_PerceptualRecipe):
    """Twice the side for generated pictures; `data.image_size` is the large one's side, twice the generator's."""

    task: Literal["enlarger"]
    model: EnlargerModel = EnlargerModel()


class _MaskedRecipe(_Recipe):
    """Something that learns masks of `classes`; "right lung" and "left lung" may come from masks of both."""

    classes: list[str] = ["lung"]
    in_channels: Literal[1, 3] = 1
    start_from: str | None = Field(None, description="a trained segmenter of the same classes and sizes to fine-tune")
    take: dict[str, int] = Field({}, description="how many training images of a dataset; all where absent")
    mirror: bool = Field(False, description="flip training images either way; not where a class has a side")
    augmentation: float = Field(1.0, ge=0, le=2, description="ranges of random moves and intensities, times this")
    stretch: float = Field(0.0, ge=0, le=0.5, description="range of the random stretch of one axis against the other")
    roughness: float = Field(0.0, ge=0, le=2, description="ranges of random shading, blur and noise, times this")
    one_piece: bool = Field(False, description="every class is one connected piece; smaller pieces are errors")

    @model_validator(mode="after")
    def _sides_stay(self) -> Self:
        sided = [name for name in self.classes if {"left", "right"} & set(name.lower().split())]
        if self.mirror and sided:
            raise ValueError(f"mirror would put {' and '.join(sided)} on the wrong side; leave it out")
        return self


class SegmenterRecipe(_MaskedRecipe):
    """A segmenter trained on masks with Dice and cross-entropy."""

    task: Literal["segmenter"]
    architecture: Literal["unet", "unetr", "transunet-type"] = "unet"
    channels: list[int] = [16, 32, 64, 96]
    sampling: dict[str, float] = Field({}, description="weights of datasets; 1 where absent")


class LatentSegmenterModel(_Strict):
    """`LatentSegmenter` sizes; `autoencoder` is a folder of a diffusers AutoencoderKL, such as kl-f8."""

    patch: int = Field(8, ge=4)
    mask_coefficients: int = Field(8, ge=1)
    vision_coefficients: int = Field(16, ge=1)
    vision_channels: int = Field(32, ge=8)
    vision_network: Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"] | None = Field(
        None, description="begin as a network that ImageNet taught, in the place of vision_channels"
    )
    denoiser_channels: list[int] = [64, 96, 128]
    denoiser_layers: int = Field(1, ge=1)
    denoiser_attention: int = Field(0, ge=0, description="number of levels, from the finest, with self-attention")
    denoiser_blocks: Literal["plain", "ldm"] = "plain"
    denoiser_dropout: float = Field(0.0, ge=0, lt=1)
    autoencoder: str | None = None


class LatentSegmenterRecipe(_MaskedRecipe):
    """One-step latent-diffusion segmentation (SynDiff, arXiv 2507.15361).

    The loss is `noise_weight` |eps - eps^| + `latent_weight` |z0 - z~0|; the paper has 1 and 1, and epsilon, uniform
    timesteps (`one_step_share` 0) and a step at 50. Epsilon wants `precision: float32`. `mask_weight` is of Dice and
    cross-entropy of the decoded masks, which the paper has not: absolute errors alone are least, for long, where small
    objects are left out.
    """

    task: Literal["latent_segmenter"]
    model: LatentSegmenterModel = LatentSegmenterModel()
    prediction_type: Literal["sample", "epsilon"] = "sample"
    timestep: int = Field(999, ge=0, le=999, description="of the single step")
    one_step_share: float = Field(0.5, ge=0, le=1, description="share of a batch that learns the single step")
    noise_weight: float = Field(1.0, ge=0)
    latent_weight: float = Field(1.0, ge=0)
    mask_weight: float = Field(0.0, ge=0)
    train_vision: bool = Field(True, description="or keep the vision encoder as it begins")


class ClassifierRecipe(_Recipe):
    """The small finding classifier, whose features are the offline extractor."""

    task: Literal["classifier"]
    channels: list[int] = [32, 64, 128, 192]
    augmentation: float = Field(1.0, ge=0, le=2, description="ranges of random moves and intensities, times this")
    sampling: dict[str, float] = Field({}, description="weights of datasets; 1 where absent")


class DenoiserModel(_Strict):
    """A U-ViT preset's name with overrides, or sizes of one's own."""

    preset: str | None = None
    hidden_size: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    patch_size: int | None = None
    conv_channels: int | None = None


class TextModel(_Strict):
    """`path` names a frozen transformers text model (a folder or Hub id); without it a small one is trained along."""

    path: str | None = None
    max_length: int = Field(40, ge=4)
    hidden_size: int = 192
    layers: int = 2
    heads: int = 3
    vocab_size: int = 1200


class CaptionConfig(_Strict):
    """How captions are made; see `skiagraph.data.chest.captions`.

    `segmenter` finds the regions that they speak of: a component, "thresholds" (lungs, no drawn masks), or null (labels
    alone); where it is not given, the domain's.
    """

    segmenter: str | None = "lung-segmenter"
    moved_share: float = Field(0.5, ge=0, le=1, description="of whole views that are slightly turned and shifted")
    crop_share: float = Field(0.2, ge=0, le=1)
    phrase_dropout: float = Field(0.25, ge=0, lt=1)


class TextToImageRecipe(_Recipe):
    """Chest-Diffusion: autoencoder latents, text states and a U-ViT denoiser (arXiv 2407.00752)."""

    task: Literal["text_to_image"]
    start_from: str | None = Field(None, description="a trained model of the same sizes to fine-tune")
    autoencoder: str
    perceptual_decoder: str | None = Field(None, description="folder of a decoder that the finished model draws with")
    denoiser: DenoiserModel
    text: TextModel = TextModel()
    captions: CaptionConfig = CaptionConfig()
    sampling: dict[str, float] = Field({}, description="weights of datasets and labels; 1 where absent")
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    sampler: Literal["dpmsolver++", "sde-dpmsolver++"] = "sde-dpmsolver++"
    unconditional: float = Field(0.1, ge=0, lt=1)
    learn_markers: bool = Field(False, description="whether burned-in letters, lead markers and devices are learned")
    grounding_weight: float = Field(0.0, ge=0)
    gain_power: float = Field(
        1.0, ge=0, le=1, description="latent channels count by this power of what they do to pixels; 0 counts all alike"
    )


class InpaintingRecipe(_Recipe):
    """A denoiser that paints inside masks: it is shown the mask and the masked image's latents besides the text.

    `captions` says where texts come from: "reports", or labels where there are none; "polyps", measured in the picture.
    """

    task: Literal["inpainting"]
    start_from: str | None = Field(None, description="a text-to-image or inpainting model of the same sizes")
    autoencoder: str
    denoiser: DenoiserModel
    text: TextModel = TextModel()
    captions: Literal["reports", "polyps"] = "reports"
    phrase_dropout: float = Field(0.25, ge=0, lt=1)
    rotate: float = Field(10.0, ge=0, le=180, description="degrees that training images are turned by at most")
    prediction_type: Literal["epsilon", "v_prediction"] = "v_prediction"
    unconditional: float = Field(0.1, ge=0, lt=1)


class LoraConfig(_Strict):
    """Low-rank additions to attention's layers (LoRA, arXiv 2106.09685), with alpha as large as the rank."""

    rank: int = Field(16, ge=1)


class FineTuneRecipe(_Recipe):
    """A published Stable Diffusion, 1, 2 or XL, tuned on reports, or labels where there are none."""

    task: Literal["fine_tune"]
    model: str = Field(description="folder or Hub id")
    lora: LoraConfig | None = Field(LoraConfig(), description="null trains all weights")
    train_text: bool = Field(False, description="tune the text encoders along")
    gradient_checkpointing: bool = Field(True, description="less memory for a third more time")
    sampling: dict[str, float] = Field({}, description="weights of datasets and labels; 1 where absent")
    unconditional: float = Field(0.1, ge=0, lt=1)


Recipe = (
    AutoencoderRecipe
    | PerceptualDecoderRecipe
    | EnlargerRecipe
    | SegmenterRecipe
    | LatentSegmenterRecipe
    | ClassifierRecipe
    | TextToImageRecipe
    | InpaintingRecipe
    | FineTuneRecipe
)
RECIPES = Path(str(files("skiagraph"))) / "recipes"
"""Folder of the recipes that come with the package."""

_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="task")])


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe file; `recipes/...` are the package's own where there is no such file.

    Args:
        path: of the YAML file.
        changes: fields with other values, such as "optim.steps=20" or "data.datasets=[a, b]"; values are YAML.

    Raises:
        RecipeError: the file is missing, is not YAML, or a field is unknown, missing or out of range (all are named).
    """
    try:
        fields = yaml.safe_load(given_or_shipped(path).read_text(encoding="utf-8"))
        return _ADAPTER.validate_python(_changed(fields, changes))
    except OSError as error:
        raise RecipeError(
            f"recipe {path} cannot be read: {error.strerror}; those that come with skiagraph: {', '.join(_shipped())}"
        ) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {path} is not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise RecipeError(f"recipe {path} does not validate: {faults}") from error


def _changed(fields: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    for change in changes:
        place, equals, value = change.partition("=")
        *sections, name = place.strip().split(".")
        within = fields
        for section in sections:
            within = within.setdefault(section, {}) if isinstance(within, dict) else None
        if not equals or not name or not isinstance(within, dict):
            raise RecipeError(f"{change!r} changes no field of a recipe; write it like optim.steps=20")
        within[name] = yaml.safe_load(value)
    return fields


def _shipped() -> list[str]:
    return [f"recipes/{path.name}" for path in sorted(RECIPES.glob("*.yaml"))]
