"""Backbones: networks in stages, so that a style layer can sit between two of them.

Every backbone keeps the parameter names of the files that are published for it, so that those load as they are.
To add one, name it in `names` and in `make_backbone`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sil_cli.models.backbones.names import IBN, OSNETS, TIMM, VIT, check_backbone
from sil_cli.models.backbones.osnet import make_osnet
from sil_cli.models.backbones.timm_net import TimmBackbone, timm_normalisation
from sil_cli.models.backbones.torchvision_nets import check_ibn_size, make_mobile, make_resnet
from sil_cli.models.backbones.vit import StagedViT
from sil_cli.models.record import Normalisation

if TYPE_CHECKING:
    from sil_cli.models.backbones.staged import Backbone


def make_backbone(
    name: str, *, height: int, width: int, last_stride: Literal[1, 2] = 1, stem_relu: bool = True
) -> Backbone:
    """A backbone with random weights.

    Args:
        name: One of `names.NAMES`, or `timm:` and a name there.
        height: Of the images in pixels; transformers have a position embedding for it.
        width: Of the images in pixels.
        last_stride: Stride of the last stage of a ResNet, where 1 keeps a finer map, as is usual in
            re-identification. Others have the stride that they were published with.
        stem_relu: ReLU after the first batch norm of a ResNet; one class of the paper's authors has none.

    Raises:
        UsageError: The name is not known, it needs another size, or timm is not installed.
    """
    check_backbone(name)
    if name.startswith(TIMM):
        return TimmBackbone(name.removeprefix(TIMM), height=height, width=width)
    if name.endswith(IBN):
        check_ibn_size(name, height, width)
    if name.startswith("resnet"):
        return make_resnet(name.removesuffix(IBN), ibn=name.endswith(IBN), last_stride=last_stride, stem_relu=stem_relu)
    if name in OSNETS:
        return make_osnet(name)
    if name == VIT:
        return StagedViT(height=height, width=width)
    return make_mobile(name)


def published_normalisation(name: str) -> Normalisation:
    """What a backbone's published weights expect of images.

    Raises:
        UsageError: There is no backbone of this name, or timm is not installed.
    """
    check_backbone(name)
    return timm_normalisation(name.removeprefix(TIMM)) if name.startswith(TIMM) else Normalisation()
