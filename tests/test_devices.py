"""Every verb on another device than the CPU: nothing is made on the wrong one, and the results are the CPU's."""

import numpy as np
import pytest
import torch

import elsewhere
import phantoms
import tiny
from skiagraph.devices import emulates, fast_bfloat16
from skiagraph.models.registry import load_component
from skiagraph.pipelines.baselines import blended_inpainting, pie
from skiagraph.pipelines.counterfactual import EditSettings, edit_image
from skiagraph.pipelines.inpaint import InpaintSettings, inpaint, load_painter
from skiagraph.pipelines.pairs import sample_with_maps
from skiagraph.pipelines.text_to_image import TextToImagePipeline

pytestmark = pytest.mark.skipif(not elsewhere.AVAILABLE, reason="needs a torch that takes devices made in Python")


@pytest.fixture(scope="module")
def device():
    return elsewhere.register()


@pytest.fixture(scope="module")
def thorax():
    pixels, mask = phantoms.thorax(np.random.default_rng(0), side=tiny.SIDE)
    roi = np.zeros(mask.shape, bool)
    roi[32:56, 8:30] = True
    return pixels.astype(np.float32) / 255, mask > 0, roi


def test_the_device_refuses_what_a_gpu_refuses(device):
    here, there = torch.ones(2, 3), torch.ones(2, 3, device=device)
    assert torch.equal((there + 1).cpu(), here + 1)
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(RuntimeError, match=r"elsewhere|same device"):
        there @ here.T
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    layer = torch.nn.Linear(3, 1).to(device)
    layer(there).sum().backward()
    assert layer.weight.grad.device.type == device


def both(tiny_model, device):
    return (TextToImagePipeline.load(tiny_model, device=where) for where in ("cpu", device))


def test_generation(tiny_model, device):
    here, there = (p(["Edema."], num_inference_steps=2, seeds=[3]).images for p in both(tiny_model, device))
    assert np.allclose(here, there, atol=1e-4)


def test_images_with_maps(tiny_model, device):
    here, there = (
        sample_with_maps(p, ["Right lung. Left lung."], ["lung"], seeds=[3], steps=4) for p in both(tiny_model, device)
    )
    assert np.allclose(here.heats, there.heats, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        (edit_image, {}),
        (edit_image, {"start": "noise", "steered": True, "gate": "both", "both_halves": False}),
        (blended_inpainting, {}),
        (pie, {}),
    ],
)
def test_edits(tiny_model, device, thorax, method, change):
    image, anatomy, roi = thorax
    settings = EditSettings(**{"steps": 4, "guidance": 3.0, **change})
    here, there = (
        method(
            p, image, target="right consolidation. effusion", source="effusion", words=["consolidation"], roi=roi,
            anatomy=anatomy, settings=settings,
        ).image
        for p in both(tiny_model, device)
    )  # fmt: skip
    assert np.allclose(here, there, atol=1e-3)


def test_painting(tiny_model, device, thorax):
    image, _, roi = thorax
    here, there = (
        inpaint(
            load_painter(tiny_model, device=where), image, roi, "Edema.", negative="Normal chest.", seed=0,
            settings=InpaintSettings(steps=3),
        )
        for where in ("cpu", device)
    )  # fmt: skip
    assert np.allclose(here, there, atol=1e-3)


@pytest.mark.parametrize("make", [tiny.lung_segmenter, tiny.latent_segmenter])
def test_segmentation(device, tmp_path, thorax, make):
    from PIL import Image

    from skiagraph.engine.segment import SegmentConfig, segment
    from skiagraph.progress import silent

    make().save_pretrained(tmp_path / "m")
    Image.fromarray((thorax[0] * 255).astype(np.uint8)).save(tmp_path / "x.png")
    masks = []
    for where in ("cpu", device):
        config = SegmentConfig((str(tmp_path / "x.png"),), model=str(tmp_path / "m"), device=where)
        segment(config, tmp_path / where, listen=silent)
        masks.append(np.asarray(Image.open(tmp_path / where / "masks/x.png")))
    assert (masks[0] != masks[1]).mean() < 0.01
    assert load_component(tmp_path / "m").device.type == "cpu"


def test_bfloat16_is_used_only_where_the_processor_has_it(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    assert not fast_bfloat16(cpu)
    assert emulates(torch.bfloat16, cpu)
    assert emulates(torch.float16, cpu)
    assert not emulates(torch.float32, cpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True}, raising=False)
    assert fast_bfloat16(cpu)
    assert not emulates(torch.bfloat16, cpu)
    assert emulates(torch.float16, cpu)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not fast_bfloat16(cpu), "an older PyTorch does not tell"
    assert not emulates(torch.bfloat16, cpu), "nor that it emulates"
