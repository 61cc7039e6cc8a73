import pytest
import torch

from skiagraph.devices import SEEDS, available_devices, seeded, usable_device
from skiagraph.errors import ModelError


@pytest.mark.parametrize("name", ["banana", "meta", "cuda:99", "", "cpu:x"])
def test_devices_that_cannot_compute_are_refused_with_those_that_can(name):
    with pytest.raises(ModelError, match=rf"no device '{name}'.*may be cpu"):
        usable_device(name)


def test_the_cpu_is_always_there():
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda_is_one_clear_error():
    with pytest.raises(ModelError, match="no device 'cuda'"):
        usable_device("cuda")


def test_equal_seeds_give_equal_noise_up_to_the_largest():
    draws = [torch.randn(4, generator=seeded(seed)) for seed in (SEEDS - 1, SEEDS - 1, 0)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("seed", [-1, SEEDS, 10**30])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(ModelError, match=f"seed {seed} is out of range"):
        seeded(seed)


def test_auto_takes_the_best_there_is(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert usable_device("auto") == torch.device("cuda")
    assert available_devices() == ["cpu", "cuda"]
