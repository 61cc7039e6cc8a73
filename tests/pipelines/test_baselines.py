"""Baselines with tiny components: what they change, what they keep, and their own formulas."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

import phantoms
import skiagraph.pipelines.baselines as baselines
import tiny
from skiagraph.errors import ImageError, MaskError, ModelError
from skiagraph.pipelines.baselines import (
    blended_inpainting,
    instruction_edit,
    load_instruction_pipeline,
    outside_result,
    pie,
)
from skiagraph.pipelines.counterfactual import EditSettings

FAST = EditSettings(steps=4, guidance=3.0)


@pytest.fixture(scope="module")
def case():
    pixels, mask = phantoms.thorax(np.random.default_rng(0), side=tiny.SIDE)
    roi = np.zeros(mask.shape, bool)
    roi[32:56, 8:30] = True
    return {
        "image": pixels.astype(np.float32) / 255, "target": "right consolidation. effusion", "source": "effusion",
        "words": ["consolidation"], "roi": roi, "anatomy": mask > 0, "settings": FAST,
    }  # fmt: skip


@pytest.mark.parametrize("method", [blended_inpainting, pie])
def test_only_the_region_changes_and_the_seed_decides(case, method):
    first, again, other = (method(tiny.pipeline(), **case, seed=s).image for s in (0, 0, 1))
    outside = ~case["roi"]
    assert np.array_equal(first[outside], case["image"][outside])
    assert np.abs(first - case["image"]).max() > 0.01
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(MaskError, match="empty"):
        method(tiny.pipeline(), **case | {"roi": np.zeros_like(outside)})


def test_pie_keeps_the_share_of_each_loop(case, monkeypatch):
    """With sampling that always ends at the original plus one, the latents are z0 + b after every loop."""
    pipeline, ends = tiny.pipeline(), []
    original = pipeline.encode(case["image"][None])
    monkeypatch.setattr(baselines, "_blended", lambda *_: original + 1)
    monkeypatch.setattr(baselines, "_pasted", lambda _, latents, *__: ends.append(latents - original))
    pie(pipeline, **case)
    assert sorted(set(ends[0].numpy().round(4).ravel().tolist())) == pytest.approx([0.01, 0.75])


def test_instruction_editing_takes_weights_of_the_published_kind(case, tmp_path):
    torch.manual_seed(0)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tiny.tokenizer()), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=24,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=8, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    made = StableDiffusionInstructPix2PixPipeline(
        tiny.colour_autoencoder(), text, tiny.tokenizer(), unet, DDIMScheduler(), None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    made.save_pretrained(tmp_path / "model")
    pipeline = load_instruction_pipeline(tmp_path / "model")
    result = instruction_edit(pipeline, **case)
    assert result.image.shape == case["image"].shape
    assert 0 <= result.image.min() <= result.image.max() <= 1
    np.testing.assert_allclose(result.image - case["image"], result.change)
    with pytest.raises(ModelError, match="no folder"):
        load_instruction_pipeline(tmp_path / "nowhere")
    (tmp_path / "model/unet/config.json").unlink()
    with pytest.raises(ModelError, match="does not load"):
        load_instruction_pipeline(tmp_path / "model")


def test_results_made_elsewhere_are_read_at_the_images_size(case, tmp_path):
    picture = np.round(case["image"] * 255).astype(np.uint8)
    Image.fromarray(picture).resize((128, 128), Image.Resampling.NEAREST).save(tmp_path / "x.png")
    result = outside_result(tmp_path / "x.png", case["image"])
    assert result.image.shape == case["image"].shape
    assert np.abs(result.change).mean() < 0.05
    with pytest.raises(ImageError, match="does not exist"):
        outside_result(tmp_path / "y.png", case["image"])
