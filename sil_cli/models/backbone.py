"""Backbones in stages, so that a style layer can sit between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torchvision
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from sil_cli.models.record import BackboneName


class StagedResNet(nn.Module):
    """torchvision's ResNet without its classifier, run stage by stage.

    Parameters and buffers keep torchvision's names, so that its weight files load as they are.

    Attributes:
        channels: Channels of the output map: 512 (ResNet-18) or 2048 (ResNet-50).
    """

    def __init__(self, name: BackboneName, *, last_stride: Literal[1, 2] = 1, stem_relu: bool = True) -> None:
        """Build it with random weights.

        Args:
            name: torchvision's name.
            last_stride: Stride of the last stage; 1 keeps a finer map, as is usual in re-identification.
            stem_relu: ReLU after the first batch norm. The class that the paper's authors ran has none.
        """
        super().__init__()
        full = getattr(torchvision.models, name)(weights=None)
        self.conv1 = full.conv1
        self.bn1 = full.bn1
        self.relu: nn.Module = full.relu if stem_relu else nn.Identity()
        self.maxpool = full.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            full.layer1,
            full.layer2,
            full.layer3,
            full.layer4,
        )
        self.channels: int = full.fc.in_features
        if last_stride == 1:
            _remove_stride(self.layer4[0])

    def forward(
        self, images: Tensor, *, style: Callable[[Tensor], Tensor] | None = None, after_stage: int = 1
    ) -> Tensor:
        """Feature maps of images.

        Args:
            images: (B, 3, H, W), normalised.
            style: Applied to the output of one stage; None leaves features as they are.
            after_stage: Which stage, 1 to 4.

        Returns:
            (B, channels, H/32, W/32), or H/16, W/16 with `last_stride=1`; sizes round up.
        """
        features: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4), start=1):
            features = stage(features)
            if style is not None and number == after_stage:
                features = style(features)
        return features


def _remove_stride(block: nn.Module) -> None:
    for module in block.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
