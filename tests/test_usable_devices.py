import pytest
import torch

from skiagraph.devices import available_devices, usable_device
from skiagraph.errors import SkiagraphError


def test_auto_takes_the_best_there_is(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert usable_device("auto") == torch.device("cuda")
    assert available_devices() == ["cpu", "cuda"]


@pytest.mark.parametrize("name", ["cuda:97", "gpu", "", "cpu:x"])
def test_what_is_not_there_is_named_with_what_is(name):
    with pytest.raises(SkiagraphError, match=r"no device .* have cpu"):
        usable_device(name)
