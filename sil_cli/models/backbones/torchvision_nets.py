"""MobileNets and EfficientNets of torchvision: chains of blocks under the name `features`."""

from __future__ import annotations

import torchvision
from torch import nn

from sil_cli.models.backbones.staged import StagedChain

STAGE_ENDS: dict[str, tuple[int, ...]] = {
    "mobilenet_v2": (3, 6, 13, 18),
    "mobilenet_v3_large": (3, 6, 12, 16),
    "efficientnet_b0": (2, 3, 5, 8),
    "efficientnet_v2_s": (2, 3, 5, 7),
}
"""The last block at a resolution of 1/4, 1/8, 1/16 and 1/32, as the stages of a ResNet end."""


def make_mobile(name: str) -> StagedChain:
    """One of these networks in four stages, with torchvision's parameter names."""
    features: nn.Sequential = getattr(torchvision.models, name)(weights=None).features
    last = features[-1]
    assert isinstance(last, nn.Sequential)  # noqa: S101 - convolution, norm, activation: so for all four
    convolution = last[0]
    assert isinstance(convolution, nn.Conv2d)  # noqa: S101
    return StagedChain(
        {"features": features},
        order=tuple(f"features.{number}" for number in range(len(features))),
        ends=tuple(f"features.{number}" for number in STAGE_ENDS[name]),
        channels=convolution.out_channels,
        head_prefixes=("classifier.",),
    )
