"""Backbones: networks in stages, so that a style layer can sit between two of them.

Every backbone keeps the parameter names of the files that are published for it, so that those load as they are.
To add one, name it in `names` and in `make_backbone`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from sil_cli.models.backbones.names import IBN, OSNETS, TIMM, TOKEN_VITS, VIT, check_backbone
from sil_cli.models.backbones.osnet import make_osnet
from sil_cli.models.backbones.resnet import check_ibn_size, make_resnet
from sil_cli.models.backbones.staged import StagedChain
from sil_cli.models.backbones.timm_net import TimmBackbone, timm_normalisation
from sil_cli.models.backbones.vit import ClassTokenViT, StagedViT
from sil_cli.models.record import Architecture, Normalisation

if TYPE_CHECKING:
    from sil_cli.models.backbones.staged import Backbone

MOBILE_STAGE_ENDS: dict[str, tuple[int, ...]] = {
    "mobilenet_v2": (3, 6, 13, 18),
    "mobilenet_v3_large": (3, 6, 12, 16),
    "efficientnet_b0": (2, 3, 5, 8),
    "efficientnet_v2_s": (2, 3, 5, 7),
}
"""The last block at a resolution of 1/4, 1/8, 1/16 and 1/32, as the stages of a ResNet end."""


def make_backbone(architecture: Architecture) -> Backbone:
    """A backbone with random weights.

    Args:
        architecture: Says which, and for transformers the size of the images, which they have a position embedding
            for. What it says of strides and stems concerns ResNets; others have those that they were published with.

    Raises:
        UsageError: The name is not known, it needs another size, or timm is not installed.
    """
    name, height, width = architecture.backbone, architecture.height, architecture.width
    check_backbone(name)
    if name.startswith(TIMM):
        return TimmBackbone(name.removeprefix(TIMM), height=height, width=width)
    if name.endswith(IBN):
        check_ibn_size(name, height, width)
    if name.startswith("resnet"):
        return make_resnet(
            name.removesuffix(IBN),
            ibn=name.endswith(IBN),
            last_stride=architecture.last_stride,
            stem_relu=architecture.stem_relu,
            stem_pooling=architecture.stem_pooling,
            non_local=architecture.non_local,
        )
    if name in OSNETS:
        return make_osnet(name)
    if name == VIT:
        return StagedViT(height=height, width=width)
    if name in TOKEN_VITS:
        return ClassTokenViT(
            height=height, width=width, stride=architecture.patch_stride, clip="clip" in name, parts="jpm" in name
        )
    return _make_mobile(name)


def _make_mobile(name: str) -> StagedChain:
    """A MobileNet or EfficientNet, a chain of blocks called `features`, in four stages with torchvision's names."""
    import torchvision  # takes seconds, and a ResNet doesn't need it

    features: nn.Sequential = getattr(torchvision.models, name)(weights=None).features
    last = features[-1]
    assert isinstance(last, nn.Sequential)  # noqa: S101 - convolution, norm, activation: so for all four
    convolution = last[0]
    assert isinstance(convolution, nn.Conv2d)  # noqa: S101
    return StagedChain(
        {"features": features},
        order=tuple(f"features.{number}" for number in range(len(features))),
        ends=tuple(f"features.{number}" for number in MOBILE_STAGE_ENDS[name]),
        channels=convolution.out_channels,
        head_prefixes=("classifier.",),
    )


def published_normalisation(name: str) -> Normalisation:
    """What a backbone's published weights expect of images.

    Raises:
        UsageError: There is no backbone of this name, or timm is not installed.
    """
    check_backbone(name)
    return timm_normalisation(name.removeprefix(TIMM)) if name.startswith(TIMM) else Normalisation()
