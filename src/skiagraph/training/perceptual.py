"""The losses of networks whose pictures are to look real, and not only to be near to some: features and a critic."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Generator, Tensor
from torch.func import functional_call

from skiagraph.evaluation.imagenet import ImageNetExtractor
from skiagraph.models.critic import Critic, hinge_loss
from skiagraph.training.recipe import PerceptualLosses

CORNERS = 32
"""Pixels, from the top and from the left, among which the corner is drawn: the extractor's coarsest grid."""

EXTRACTOR = "efficientnet-lite1"
"""The frozen network of the losses. Others judge the result."""


class PerceptualLoss:
    """L1 at a quarter of the size and features' distance to real pictures; a critic's opinion of all, and no weave.

    What is made of a denoiser's sample has no real picture to be near to; made back into a sample, it must be what it
    was made of. The critic's gradient is held at a share of the other losses' where they meet, at the picture
    (arXiv 2012.09841, Eq. 7). Pictures are looked at from a corner that is drawn anew in every step: a network that
    halves its side again and again sees the same places of a fixed grid, and what it likes there becomes a weave.

    Args:
        weigh: weights of the parts.
    """

    def __init__(self, weigh: PerceptualLosses) -> None:
        self.weigh = weigh
        self.extractor = ImageNetExtractor(EXTRACTOR)

    def critic(self) -> Critic:
        """A new critic of this network's stages."""
        with torch.no_grad():
            stages = self.extractor.stages(torch.zeros(1, 1, 64, 64))
        return Critic([s.shape[1] for s in stages[1:]])

    def to(self, device: torch.device) -> None:
        self.extractor.stages.to(device)

    def __call__(
        self, critic: Critic, made: Tensor, images: Tensor, inconsistency: Callable[[Tensor], Tensor],
        generator: Generator,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """A scalar whose gradient is right for both players, and its parts.

        Args:
            critic: is trained along.
            made: pictures (n + m, 1, H, W) in [-1, 1]; the first n were made from what the real images hold.
            images: the n real ones.
            inconsistency: of the m other pictures with what they were made of, a scalar.
            generator: of the corner from which pictures are looked at.
        """
        corner = torch.randint(CORNERS, (2,), generator=generator).tolist()
        images = _from_corner(images, corner)
        with torch.no_grad():
            real_stages = self.extractor.stages(images)
        whole = made.detach().requires_grad_()
        pixels = _from_corner(whole, corner)
        stages = self.extractor.stages(pixels)
        near, terms = self._nearness(pixels, stages, images, real_stages)
        terms["consistency"] = inconsistency(whole[len(images) :])
        near = near + self.weigh.consistency * terms["consistency"]
        pull = torch.autograd.grad(near, whole, retain_graph=True)[0]
        frozen = {name: p.detach() for name, p in critic.named_parameters()}
        scores = functional_call(critic, frozen, (pixels, stages[1:]))
        push = torch.autograd.grad(-torch.stack([s.mean() for s in scores]).mean(), whole)[0]
        push = push * self.weigh.critic * pull.norm() / push.norm().clamp_min(1e-12)
        to_maker = (made * (pull + push)).sum()
        terms["critic"] = hinge_loss(
            critic(images, real_stages[1:]), critic(pixels.detach(), [s.detach() for s in stages[1:]])
        )
        return to_maker - to_maker.detach() + near.detach() + terms["critic"], terms

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of features (n,) of two batches of pictures."""
        return _feature_distance(self.extractor.stages(a), self.extractor.stages(b))

    def _nearness(
        self, pixels: Tensor, stages: list[Tensor], images: Tensor, targets: list[Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        weigh, known = self.weigh, len(images)
        terms = {
            "coarse": F.l1_loss(F.avg_pool2d(pixels[:known], 4), F.avg_pool2d(images, 4)),
            "fine": F.l1_loss(pixels[:known], images),
            "features": _feature_distance([s[:known] for s in stages], targets).mean(),
            "weave": weave(pixels),
        }
        weights = {"coarse": weigh.coarse, "fine": weigh.fine, "features": weigh.features, "weave": weigh.weave}
        return torch.stack([w * terms[name] for name, w in weights.items()]).sum(), terms


def weave(pictures: Tensor) -> Tensor:
    """How much fine detail repeats from patch to patch of pictures (n, c, H, W), which in a radiograph none does.

    Mean absolute value of what is finer than 5 pixels, averaged over all places of each picture that have one place in
    a grid of 4 pixels, and over all pictures in a grid of 16; sides are multiples of 16. A scalar.
    """
    fine = pictures - F.avg_pool2d(pictures, 5, stride=1, padding=2, count_include_pad=False)
    of_each = reduce(fine, "n c (i y) (j x) -> n c y x", "mean", y=4, x=4)
    of_all = reduce(fine, "n c (i y) (j x) -> c y x", "mean", y=16, x=16)
    return of_each.abs().mean() + of_all.abs().mean()


def _from_corner(pictures: Tensor, corner: list[int]) -> Tensor:
    """The part (n, c, H - `CORNERS`, W - `CORNERS`) of pictures (n, c, H, W) that has its upper left corner there."""
    (y, x), (height, width) = corner, (side - CORNERS for side in pictures.shape[-2:])
    return pictures[..., y : y + height, x : x + width]


def random_crops(planes: Tensor, side: int, generator: Generator, grid: int = 1) -> Tensor:
    """A square of each of (n, c, H, W): `side` steps of `grid` pixels a side, its corner on the grid."""
    room = planes.shape[-1] // grid - side + 1
    corners = torch.randint(room, (len(planes), 2), generator=generator).tolist()
    return torch.stack(
        [
            p[:, y * grid : (y + side) * grid, x * grid : (x + side) * grid]
            for p, (y, x) in zip(planes, corners, strict=True)
        ]
    )


def _feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Squared distance (n,) of unit-length activations, a mean over places and stages (arXiv 1801.03924, Eq. 1)."""
    gaps = [
        (F.normalize(x.float(), dim=1) - F.normalize(y.float(), dim=1)).square().sum(dim=1).mean(dim=(-1, -2))
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(gaps).mean(dim=0)
