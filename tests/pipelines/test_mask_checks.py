"""Answers to several views of a picture."""

import torch

from skiagraph.pipelines.mask_checks import VIEWS, View, least_agreement, same_label_dice, scores_of_views


class Threshold:
    """Class 1 is what is darker than `level`, whatever the view; `trouble` makes it fail on all but upright ones."""

    device = torch.device("cpu")

    def __init__(self, trouble=False):
        self.trouble, self.calls = trouble, 0

    def scores(self, images):
        self.calls += 1
        dark = -images
        if self.trouble and self.calls % len(VIEWS) != 1:
            dark = dark.flip(-2)
        return torch.cat([-dark, dark], dim=1).float()


def discs(count=3):
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    inside = torch.stack([(y + 0.4) ** 2 + (x - 0.1 * k) ** 2 < 0.15 for k in range(count)])
    return torch.where(inside, -0.95, 0.95)[:, None], inside.long()


def test_the_first_view_is_the_picture_itself():
    assert VIEWS[0] == View()
    assert len(set(VIEWS)) == len(VIEWS)


def test_answers_to_moved_views_are_moved_back():
    images, inside = discs()
    scores, agreement = scores_of_views(Threshold(), images)
    assert (same_label_dice(scores.argmax(dim=1), inside) > 0.97).all()
    assert (agreement > 0.95).all()


def test_a_model_that_answers_otherwise_for_every_view_does_not_agree_with_itself():
    images, _ = discs()
    assert (scores_of_views(Threshold(trouble=True), images)[1] < 0.8).all()


def test_five_percent_of_good_masks_fall_below_the_bound():
    images, inside = discs()
    bound = least_agreement(Threshold(), images, inside)
    assert 0.95 < bound <= 1
    assert least_agreement(Threshold(), images, torch.ones_like(inside)) == 0, "no mask is good"


def test_dice_of_label_maps():
    first, second = torch.zeros(3, 2, 4, dtype=torch.long), torch.zeros(3, 2, 4, dtype=torch.long)
    first[0, 0], second[0, 0, :2] = 1, 1
    first[1, 0], second[1, 0] = 1, 2
    torch.testing.assert_close(same_label_dice(first, second), torch.tensor([2 * 2 / 6, 0, 1]))
