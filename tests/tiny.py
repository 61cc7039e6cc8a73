"""The smallest components that make a working pipeline, with random weights: for tests of everything around them."""

from functools import cache

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)

from skiagraph.models.autoencoder import SmallAutoencoderKL
from skiagraph.models.enlarger import Enlarger
from skiagraph.models.latent_segmenter import LatentSegmenter
from skiagraph.models.segmenter import Segmenter
from skiagraph.models.text import small_text_encoder, train_tokenizer
from skiagraph.models.uvit import UViT2DModel
from skiagraph.pipelines.text_to_image import TextToImagePipeline

SIDE = 64
"""Side of the images of `pipeline()`, in pixels."""

LATENT = (4, 8, 8)
"""Shape of their latents."""

CORPUS = [
    "Small left pleural effusion. No pneumothorax.",
    "Large right pleural effusion and consolidation.",
    "The heart is enlarged: cardiomegaly, 2.5 cm.",
    "PA view of a 54-year-old man; café, µm.",
]


@cache
def tokenizer():
    """Over the words of reports, at most 24 tokens; shared, so not to be changed."""
    return train_tokenizer(CORPUS * 3, vocab_size=160, max_length=24)


def random_weights(module, seed=0):
    """The module in evaluation mode with weights large enough that every input shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return module.eval()


def denoiser(**overrides):
    sizes = {
        "sample_size": 8, "in_channels": 4, "patch_size": 2, "hidden_size": 16, "depth": 2, "num_heads": 2,
        "text_dim": 16, "text_tokens": 24,
    }  # fmt: skip
    return random_weights(UViT2DModel(**{**sizes, **overrides}))


def autoencoder():
    return random_weights(
        SmallAutoencoderKL(latent_channels=4, block_out_channels=(16, 16), scaling_factor=0.5), seed=1
    )


def enlarger():
    return random_weights(Enlarger(8, 1, 4), seed=7)


def colour_autoencoder():
    """Diffusers' own, with three channels and images twice the side of the latent."""
    return random_weights(
        AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        seed=1,
    )  # fmt: skip


def inpainting_pipeline(*, xl=False):
    """Diffusers' Stable Diffusion inpainting pipeline, or XL's, with the 9-channel U-Net; images of `SIDE` pixels."""
    text = CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=2, vocab_size=60,
        projection_dim=16, eos_token_id=1, pad_token_id=1, bos_token_id=0,
    )  # fmt: skip
    more = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 4, "attention_head_dim": (2, 4),
        "projection_class_embeddings_input_dim": 6 * 4 + 16, "use_linear_projection": True,
    } if xl else {"attention_head_dim": 4}  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=9, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, cross_attention_dim=32 if xl else 16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **more,
    )  # fmt: skip
    parts = {
        "vae": colour_autoencoder(), "unet": random_weights(unet, seed=4), "tokenizer": clip_tokenizer(),
        "text_encoder": random_weights(CLIPTextModel(text), seed=5),
        "scheduler": DDIMScheduler(num_train_timesteps=100, clip_sample=False, steps_offset=1),
    }  # fmt: skip
    if xl:
        second = random_weights(CLIPTextModelWithProjection(text), seed=6)
        return StableDiffusionXLInpaintPipeline(**parts, text_encoder_2=second, tokenizer_2=clip_tokenizer())
    return StableDiffusionInpaintPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def clip_tokenizer():
    """CLIP's kind of tokenizer over single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)


def text_encoder():
    return random_weights(small_text_encoder(tokenizer(), hidden_size=16, layers=1, heads=2, max_length=24), seed=2)


def lung_segmenter():
    return random_weights(Segmenter(channels=(4, 8, 8), working_size=32), seed=3)


def latent_segmenter(**overrides):
    sizes = {
        "working_size": 32, "patch": 4, "mask_coefficients": 3, "vision_coefficients": 4, "vision_channels": 8,
        "denoiser_channels": (16, 32),
    }  # fmt: skip
    return random_weights(LatentSegmenter(**{**sizes, **overrides}), seed=4)


def pipeline(*, vae=None, scheduler=None, prompt_style="report"):
    made = TextToImagePipeline(
        denoiser(),
        vae or autoencoder(),
        text_encoder(),
        tokenizer(),
        scheduler or DDIMScheduler(num_train_timesteps=100, clip_sample=False),
        prompt_length=24,
        prompt_style=prompt_style,
    )
    made.set_progress_bar_config(disable=True)
    return made


def stable_diffusion():
    """Diffusers' Stable Diffusion pipeline over the words of reports; images of 64 pixels."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer()), hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=24,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=32, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=12, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        random_weights(vae, seed=7), random_weights(CLIPTextModel(text), seed=8), tokenizer(),
        random_weights(unet, seed=9), DDIMScheduler(num_train_timesteps=100), None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_diffusion_xl():
    """Diffusers' Stable Diffusion XL pipeline with two text encoders over the words of reports; images of 64 pixels."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer()), hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=24, projection_dim=16, eos_token_id=3, pad_token_id=0, bos_token_id=2,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=32, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=24,
        attention_head_dim=(2, 4), norm_num_groups=4, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return _shown_quietly(
        StableDiffusionXLPipeline(
            colour_autoencoder(), random_weights(CLIPTextModel(text), seed=8),
            random_weights(CLIPTextModelWithProjection(text), seed=10), tokenizer(), tokenizer(),
            random_weights(unet, seed=9), DDIMScheduler(num_train_timesteps=100, clip_sample=False),
            add_watermarker=False,
        )
    )  # fmt: skip


def pixart(*, sigma=False, sample_size=32):
    """Diffusers' PixArt pipeline, alpha or sigma, with a T5 over the words of reports; images of 64 pixels.

    One of latents of 128 pixels is besides told the picture's size.
    """
    text = T5Config(vocab_size=len(tokenizer()), d_model=12, d_kv=6, d_ff=16, num_layers=1, num_heads=2)
    transformer = PixArtTransformer2DModel(
        sample_size=sample_size, num_layers=2, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24,
        caption_channels=12, patch_size=2, in_channels=4, out_channels=8, norm_num_groups=4,
    )  # fmt: skip
    made = PixArtSigmaPipeline if sigma else PixArtAlphaPipeline
    return _shown_quietly(
        made(
            tokenizer(), random_weights(T5EncoderModel(text), seed=8), colour_autoencoder(),
            random_weights(transformer, seed=9), DDIMScheduler(num_train_timesteps=100, clip_sample=False),
        )
    )  # fmt: skip


def sana():
    """Diffusers' Sana pipeline with a Gemma over the words of reports; images of 32 pixels."""
    text = Gemma2Config(
        vocab_size=len(tokenizer()), hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=6,
    )  # fmt: skip
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=12,
        sample_size=16, patch_size=1,
    )  # fmt: skip
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "ResBlock"),
        decoder_block_types=("ResBlock", "ResBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41,
    )  # fmt: skip
    return _shown_quietly(
        SanaPipeline(
            tokenizer(), random_weights(Gemma2Model(text), seed=8), random_weights(vae, seed=7),
            random_weights(transformer, seed=9),
            DPMSolverMultistepScheduler(
                num_train_timesteps=100, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
            ),
        )
    )  # fmt: skip


def _shown_quietly(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
