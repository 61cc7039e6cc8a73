"""What a network costs: multiply-adds (MACs), in closed form for U-ViT and measured for any module.

A multiply-add counts once; as FLOPs it counts twice. Papers report either under the name "FLOPs", so every
number here says which it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class ComponentCost:
    """Cost of one forward pass of one network.

    Attributes:
        name: what was measured.
        parameters: count of its parameters.
        macs: multiply-adds of its matrix products and convolutions.
    """

    name: str
    parameters: int
    macs: int

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-add."""
        return 2 * self.macs


def uvit_macs(
    hidden: int,
    depth: int,
    latent: int,
    patch: int,
    text_tokens: int,
    in_channels: int = 4,
    text_dim: int = 768,
    *,
    mlp_ratio: int = 4,
    final_conv: bool = True,
) -> int:
    """Multiply-adds of one U-ViT forward pass of one image (arXiv 2209.12152), norms and activations aside.

    With L = 1 + text_tokens + (latent / patch)^2 tokens of width D: each of the depth + 1 blocks takes
    L (4 D^2 + 2 mlp_ratio D^2 + 2 L D), each of the depth / 2 skip connections L 2 D^2; embeddings and head
    come on top. The cost does not depend on the number of heads, nor on whether text tokens are masked.

    Args:
        hidden: token width D.
        depth: blocks besides the middle one.
        latent: side of the square latent, in latent pixels.
        patch: side of a patch, in latent pixels.
        text_tokens: text positions the sequence has, padding included; 0 for none.
        in_channels: latent channels.
        text_dim: width of the text states.
        mlp_ratio: width of the MLP over `hidden`.
        final_conv: whether a 3x3 convolution ends the network.
    """
    patches = (latent // patch) ** 2
    length = 1 + text_tokens + patches
    block = (4 + 2 * mlp_ratio) * hidden**2 + 2 * length * hidden
    body = length * ((depth + 1) * block + (depth // 2) * 2 * hidden**2)
    patch_values = patch**2 * in_channels
    embeddings = patches * patch_values * hidden + text_tokens * text_dim * hidden
    head = patches * hidden * patch_values + (9 * in_channels**2 * latent**2 if final_conv else 0)
    return body + embeddings + head


def measured_macs(module: nn.Module, *inputs: Any, **kwargs: Any) -> int:
    """Multiply-adds of `module(*inputs, **kwargs)`, counted operation by operation.

    Matrix products, convolutions and attention count; norms, activations, additions and resizing do not.
    On the meta device (`with torch.device("meta")` around building the module and its inputs) it takes
    no memory and hardly any time, whatever the size. The count is of the whole batch.
    """
    # Not every device's fused attention is counted (the CPU's is not); as plain matrix products it always is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs, **kwargs)
    return counter.get_total_flops() // 2


def component_cost(name: str, module: nn.Module, *inputs: Any, **kwargs: Any) -> ComponentCost:
    """Parameters and measured multiply-adds of one network; see `measured_macs`."""
    parameters = sum(p.numel() for p in module.parameters())
    return ComponentCost(name, parameters, measured_macs(module, *inputs, **kwargs))
