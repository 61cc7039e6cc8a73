"""TransUNet's type: sizes, what the transformer joins, and what the skips carry."""

import pytest
import torch

from skiagraph.errors import ModelError
from skiagraph.models.segmenter import ARCHITECTURES, Segmenter
from skiagraph.models.transunet import TransUNetType


def network():
    torch.manual_seed(0)
    return TransUNetType(in_channels=1, outputs=3, side=32, channels=(4, 8, 8), layers=1).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_segmenters_of_every_architecture_save_load_and_keep_the_size(tmp_path, architecture):
    model = Segmenter(architecture=architecture, channels=(8, 8, 16), working_size=32, in_channels=3).eval()
    model.save_pretrained(tmp_path)
    again, image = Segmenter.from_pretrained(tmp_path), torch.rand(2, 3, 40, 24) * 2 - 1
    assert again(image).shape == (2, 3, 40, 24)
    torch.testing.assert_close(again(image), model(image))


def test_an_unknown_architecture_names_the_known_ones():
    with pytest.raises(ModelError, match="known: unet, unetr, transunet-type"):
        Segmenter(architecture="transunet")


@pytest.mark.parametrize("part", ["project", "encoder.0", "encoder.1"])
def test_the_transformer_and_every_skip_reach_the_answer(part):
    model, image = network(), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        before = model(image)
        model.get_submodule(part).register_forward_hook(lambda *args: args[2] + torch.randn_like(args[2]))
        assert not torch.allclose(model(image), before, atol=1e-3)


def test_every_level_and_the_transformer_learn():
    model = network().train()
    model(torch.randn(2, 1, 32, 32)).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
