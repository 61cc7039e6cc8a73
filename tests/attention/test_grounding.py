import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skiagraph.attention.grounding import grounding_loss, pointing_game, threshold_iou
from skiagraph.attention.heatmaps import unit_maximum


def square(size=8):
    region = torch.zeros(1, 1, size, size)
    region[..., 2:5, 1:4] = 1
    return region


def test_loss_is_zero_when_attention_is_the_region_and_one_when_elsewhere():
    region = square()
    torch.testing.assert_close(grounding_loss(region * 0.01, region), torch.tensor(0.0))
    torch.testing.assert_close(grounding_loss((1 - region) * 0.3, region), torch.tensor(1.0))


def test_phrases_without_region_or_tokens_do_not_count():
    region, maps = square(), torch.rand(1, 1, 8, 8)
    nothing = torch.zeros_like(region)
    alone = grounding_loss(maps, region)
    both = grounding_loss(torch.cat([maps, nothing, maps], 1), torch.cat([region, region, nothing], 1))
    torch.testing.assert_close(alone, both)
    assert grounding_loss(nothing, region) == 0


def test_descending_the_loss_moves_attention_into_the_region():
    region, logits = square(), torch.zeros(1, 1, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        grounding_loss(logits.exp(), region).backward()
        optimizer.step()
    maps = unit_maximum(logits.exp())
    assert pointing_game(maps, region).all()
    assert threshold_iou(maps, region).item() > 0.95


@settings(max_examples=25, deadline=None)
@given(row=st.integers(0, 7), column=st.integers(0, 7))
def test_pointing_game_looks_at_the_maximum(row, column):
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, row, column] = 1
    assert bool(pointing_game(maps, square())) == (2 <= row < 5 and 1 <= column < 4)


def test_threshold_iou_by_hand():
    maps = torch.zeros(1, 1, 8, 8)
    maps[..., 2:5, 1:7] = 1
    torch.testing.assert_close(threshold_iou(maps, square()), torch.tensor([[0.5]]))
