import pytest
import torch
from torch import nn

from skiagraph.training import muon
from skiagraph.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    along = torch.diag(u.T @ orthogonalised(matrix).float() @ vh.T)
    assert along[:-2].min() > 0.6  # the smallest singular values take more iterations
    assert along.max() < 1.3


@pytest.mark.parametrize("shape", [(12, 32), (32, 12)])
def test_follows_torchs_own_which_computes_in_bfloat16(shape, monkeypatch):
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: False)
    reference = pytest.importorskip("torch", minversion="2.9").optim.Muon
    ours, theirs = (nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1))) for _ in range(2))
    start = ours.detach().clone()
    optimizers = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        reference([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(3):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(2 + step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = theirs.detach() - start
    assert (ours.detach() - theirs.detach()).norm() < 0.02 * moved.norm()


def test_weights_without_a_gradient_stay():
    weight = nn.Parameter(torch.ones(2, 2))
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, torch.ones(2, 2))
