"""LPIPS against torchmetrics' own, with one random backbone."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchmetrics.functional.image import lpips as reference

from skiagraph.errors import EvaluationError
from skiagraph.evaluation import lpips
from skiagraph.evaluation.lpips import Lpips, alexnet_features


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Weights as torchvision stores them: of the features, and of a classifier that nobody asks."""
    torch.manual_seed(0)
    stored = {f"features.{k}": v for k, v in alexnet_features().state_dict().items()}
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(stored | {"classifier.1.weight": torch.zeros(2, 2)}, path)
    return path


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    a = rng.uniform(size=(5, 96, 80)).astype(np.float32)
    return a, (a + 0.2 * rng.normal(size=a.shape)).clip(0, 1).astype(np.float32)


def test_distances_are_those_of_torchmetrics(backbone, pairs, monkeypatch):
    features = alexnet_features()
    features.load_state_dict({k.removeprefix("features."): v for k, v in torch.load(backbone).items() if "feat" in k})
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda net, pretrained=False: features)
    peer = reference._LPIPS(pretrained=True, net="alex").eval()
    a, b = (torch.from_numpy(x)[:, None].expand(-1, 3, -1, -1) for x in pairs)
    with torch.no_grad():
        expected = peer(a, b, normalize=True).flatten().numpy()
    found = Lpips(backbone).perceptual_distance(*pairs, batch_size=2)
    assert np.allclose(found, expected, atol=1e-5)
    assert (found > 0).all()
    assert Lpips(backbone).perceptual_distance(pairs[0], pairs[0]).max() == 0


def test_safetensors_are_read_too(backbone, pairs, tmp_path):
    save_file(torch.load(backbone), tmp_path / "alexnet.safetensors")
    again = Lpips(tmp_path / "alexnet.safetensors").perceptual_distance(*pairs)
    assert np.array_equal(again, Lpips(backbone).perceptual_distance(*pairs))


def test_other_files_are_refused(tmp_path, pairs, backbone, monkeypatch):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(EvaluationError, match="does not hold torchvision's AlexNet"):
        Lpips(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(EvaluationError, match="cannot be read as weights"):
        Lpips(tmp_path / "text.pth")
    with pytest.raises(EvaluationError, match="cannot be read as weights"):
        Lpips(tmp_path / "absent.safetensors")
    with pytest.raises(EvaluationError, match="give pairs of one size"):
        Lpips(backbone).perceptual_distance(pairs[0], pairs[0][:2])
    monkeypatch.setattr(lpips, "HEADS", {"torchmetrics": "nowhere.pth"})
    with pytest.raises(EvaluationError, match="pip install torchmetrics"):
        Lpips(backbone)
