"""Single files and LoRA weights become model folders that draw what they should."""

import json
import re

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

import tiny
from skiagraph.engine.convert import ConvertConfig, convert
from skiagraph.engine.generate import GenerateConfig, generate
from skiagraph.errors import ModelError, SkiagraphError
from skiagraph.models.registry import model_folder
from skiagraph.pipelines.published import load_pipeline
from skiagraph.progress import silent

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip

UNET = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0",
        "conv_out": "out.2", "conv_in": "input_blocks.0.0"}  # fmt: skip

VAE = {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_q": "q", "to_k": "k",
       "to_v": "v", "to_out.0": "proj_out", "downsamplers.0": "downsample", "upsamplers.0": "upsample"}  # fmt: skip


def single_file_name(part, name):
    """What a weight of a Stable Diffusion with one layer a block and two blocks is called in a single file."""
    if part == "text_encoder":
        return "cond_stage_model.transformer." + (name if name.startswith("text_model.") else f"text_model.{name}")
    if part == "vae":
        return "first_stage_model." + _vae_name(name)
    return "model.diffusion_model." + _unet_name(name)


def _vae_name(name):
    for here, there in VAE.items():
        name = re.sub(rf"(?<![a-z_]){re.escape(here)}(?![0-9])", there, name)
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{1 - int(m[1])}.block", name)
    name = re.sub(r"down_blocks\.(\d)", r"down.\1", name)
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{1 - int(m[1])}", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    return name.replace("mid_block.attentions.0", "mid.attn_1")


def _unet_name(name):
    if "resnets" in name:
        for here, there in RESNET.items():
            name = name.replace(f".{here}.", f".{there}.")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.0", lambda m: f"input_blocks.{2 * int(m[1]) + 1}.0", name)
    name = re.sub(r"down_blocks\.(\d)\.attentions\.0", lambda m: f"input_blocks.{2 * int(m[1]) + 1}.1", name)
    name = re.sub(r"down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.0", name)
    name = re.sub(r"up_blocks\.(\d)\.attentions\.(\d)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.1", name)
    name = name.replace("up_blocks.0.upsamplers.0.conv", "output_blocks.1.1.conv")
    name = name.replace("mid_block.resnets.0", "middle_block.0").replace("mid_block.resnets.1", "middle_block.2")
    name = name.replace("mid_block.attentions.0", "middle_block.1")
    for here, there in UNET.items():
        name = re.sub(rf"^{re.escape(here)}\.", f"{there}.", name)
    return name


def single_file(pipeline, path):
    """The pipeline's weights in one file, as the first Stable Diffusion was published."""
    stored = {}
    for part in ("unet", "vae", "text_encoder"):
        for name, weight in getattr(pipeline, part).state_dict().items():
            attends = part == "vae" and "attentions" in name and weight.ndim == 2
            stored[single_file_name(part, name)] = (weight[:, :, None, None] if attends else weight).contiguous()
    save_file(stored, path)
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folder of a tiny Stable Diffusion."""
    folder = tmp_path_factory.mktemp("published") / "model"
    tiny.stable_diffusion().save_pretrained(folder)
    return folder


def lora_of(folder, target):
    """A LoRA file for a published folder, and the folder's denoiser with it added by hand: W + alpha / rank B A."""
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
    weight = pipeline.unet.get_submodule(name).weight
    a, b = torch.randn(4, weight.shape[1]), torch.randn(weight.shape[0], 4)
    save_file({f"unet.{name}.lora.down.weight": a, f"unet.{name}.lora.up.weight": b}, target)
    with torch.no_grad():
        weight += 0.5 * (b @ a)
    return pipeline.unet


def drawn(folder):
    return load_pipeline(folder)(["Cardiomegaly."], seeds=[0], num_inference_steps=2).images


def test_a_single_file_draws_what_its_folder_draws(published, tmp_path, no_network):
    file = single_file(tiny.stable_diffusion(), tmp_path / "tiny.safetensors")
    config = ConvertConfig(model=str(file), like=str(published), dtype="float32")
    manifest = convert(config, tmp_path / "out", listen=silent)
    np.testing.assert_allclose(drawn(tmp_path / "out/model"), drawn(published), atol=1e-5)
    assert list(manifest["read"]) == [str(file)]
    assert model_folder(tmp_path / "out/model")
    generate(
        GenerateConfig(("Cardiomegaly.",), model=str(tmp_path / "out/model"), steps=1), tmp_path / "made", listen=silent
    )
    assert json.loads((tmp_path / "made/manifest.json").read_text())["images"][0]["prompt"] == "Cardiomegaly."


def test_a_lora_is_added_to_the_weights(published, tmp_path, no_network):
    pytest.importorskip("peft")
    wanted = lora_of(published, tmp_path / "lora.safetensors")
    config = ConvertConfig(
        model=str(published), lora=str(tmp_path / "lora.safetensors"), lora_scale=0.5, dtype="float32"
    )
    convert(config, tmp_path / "out", listen=silent)
    found = load_pipeline(tmp_path / "out/model").denoiser.state_dict()
    assert set(found) == set(wanted.state_dict())
    for name, weight in wanted.state_dict().items():
        torch.testing.assert_close(found[name], weight, atol=1e-5, rtol=1e-4)
    with pytest.raises(SkiagraphError):
        convert(ConvertConfig(model=str(published), lora=str(tmp_path / "lora.safetensors")), tmp_path / "out")


def test_what_cannot_be_converted_is_named(published, tmp_path, no_network, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "empty.safetensors").write_bytes(b"")
    save_file({"unet.nowhere.lora.down.weight": torch.ones(4, 4)}, tmp_path / "other.safetensors")
    file = str(tmp_path / "empty.safetensors")
    faults = [
        (ConvertConfig(model=str(published)), "nothing to convert"),
        (ConvertConfig(model=str(tmp_path / "no.safetensors")), "no file"),
        (ConvertConfig(model=file), "with --like"),
        (ConvertConfig(model=file, like="lab/absent"), "Hub cache; --allow-download"),
        (ConvertConfig(model=file, like=str(published)), "does not load"),
        (ConvertConfig(model="cxr-256", lora=file), "cannot take a LoRA"),
    ]
    for config, message in faults:
        with pytest.raises(ModelError, match=message):
            convert(config, tmp_path / "out", listen=silent)
        assert not (tmp_path / "out/model").exists()
    with pytest.raises(ModelError, match="`skiagraph convert` makes a model folder"):
        model_folder(file)
