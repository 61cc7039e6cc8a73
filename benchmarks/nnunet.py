"""A peer: a U-Net trained in the style of nnU-Net (Isensee et al. 2021, Nature Methods 18:203), of MONAI's parts.

As there: instance normalisation, leaky ReLU, deep supervision, Dice with cross-entropy, SGD with Nesterov momentum 0.99
and a polynomial decay from 0.01, images of mean 0 and variance 1, batches of 12, and its augmentations with their
chances. Not as there: half the width, so that a CPU gets through more than a handful of batches, no mirroring where
sides have names, no folds, and no 250,000 batches: it stops when its time is up.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotated,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
    RandZoomd,
)
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from skiagraph.devices import fast_bfloat16
from skiagraph.files import atomic_path, write_json
from skiagraph.training.tasks.segmenter import Pairs

WIDTHS = (16, 32, 64, 128, 256, 256)
BATCH = 12
LEARNING_RATE = 0.01


class NNUNet(nn.Module):
    """The network with what stands before it: every image is brought to mean 0 and variance 1."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        levels = len(WIDTHS)
        self.net = DynUNet(
            2, in_channels, classes, kernel_size=[3] * levels, strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1), filters=WIDTHS, deep_supervision=True, deep_supr_num=levels - 3,
        )  # fmt: skip

    @torch.no_grad()
    def segment(self, images: Tensor) -> Tensor:
        """As the package's segmenters: class index (batch, H, W)."""
        return self.net(standardised(images)).argmax(dim=1).to(torch.uint8)


def standardised(images: Tensor) -> Tensor:
    """Every channel of every image with mean 0 and variance 1."""
    return (images - images.mean((2, 3), keepdim=True)) / images.std((2, 3), keepdim=True).clamp_min(1e-5)


def trained(pairs: Pairs, classes: int, *, mirror: bool, minutes: float, seed: int, folder: Path) -> NNUNet:
    """A network trained for so many minutes, augmenting included, unless it lies in `folder` already."""
    torch.manual_seed(seed)
    model = NNUNet(pairs[0].shape[1], classes)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        steps = _train(model, pairs, _augmentation(mirror, seed), 60 * minutes)
        with atomic_path(weights) as temporary:
            save_model(model, str(temporary))
        write_json(folder / "steps.json", steps)
    load_model(model, str(weights))
    return model.eval()


def _train(model: NNUNet, pairs: Pairs, augment: Compose, seconds: float) -> int:
    """SGD until the time is up; the number of steps taken."""
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=0.99, nesterov=True, weight_decay=3e-5)
    criterion = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True))
    started, steps = time.monotonic(), 0
    model.train()
    while (passed := (time.monotonic() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - passed) ** 0.9
        chosen = torch.randint(len(pairs[0]), (BATCH,))
        done = [augment({"image": image, "label": label}) for image, label in zip(*_batch(pairs, chosen), strict=True)]
        images, labels = (torch.stack([torch.as_tensor(sample[key]) for sample in done]) for key in done[0])
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16(torch.device("cpu"))):
            logits = model.net(images)  # standardised before they were augmented
        loss = criterion(list(logits.float().unbind(1)), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 12)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        if steps % 50 == 0:
            print(f"nnU-Net style: step {steps}, loss {float(loss):.3f}, {100 * passed:.0f} % of its time", flush=True)
    return steps


def _batch(pairs: Pairs, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Images with mean 0 and variance 1, as nnU-Net augments them, and label maps."""
    return standardised(pairs[0][chosen].float()), pairs[1][chosen].float()


def _augmentation(mirror: bool, seed: int) -> Compose:
    """nnU-Net's, with its ranges and chances, for pictures as high as wide."""
    both, modes = ["image", "label"], ["bilinear", "nearest"]
    steps = [
        RandRotated(both, range_x=torch.pi, prob=0.2, mode=modes, padding_mode="zeros"),
        RandZoomd(both, prob=0.2, min_zoom=0.7, max_zoom=1.4, mode=modes, padding_mode="constant"),
        RandGaussianNoised("image", prob=0.1, std=0.1**0.5),
        RandGaussianSmoothd("image", prob=0.2, sigma_x=(0.5, 1), sigma_y=(0.5, 1)),
        RandScaleIntensityd("image", factors=0.25, prob=0.15),
        RandScaleIntensityFixedMeand("image", factors=0.25, prob=0.15),
        RandSimulateLowResolutiond("image", prob=0.25, zoom_range=(0.5, 1), upsample_mode="bicubic"),
        RandAdjustContrastd("image", prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
        RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
    ]
    if mirror:
        steps += [RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    return Compose(steps).set_random_state(seed)
