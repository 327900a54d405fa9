"""torchvision's ResNets, their IBN-a forms (Pan et al., "Two at Once", ECCV 2018), MobileNets and EfficientNets."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn

from sil_cli.errors import UsageError
from sil_cli.models.backbones.staged import StagedChain
from sil_cli.models.record import StemPooling

STAGES = ("layer1", "layer2", "layer3", "layer4")
IBN_STAGES = STAGES[:3]
"""IBN-a leaves the last stage as it is: what appearance taught is to be kept there."""

LAST_INSTANCE_NORM = 16
"""How many times smaller than the image the map is that the last of the instance norms sees."""

MOBILE_STAGE_ENDS: dict[str, tuple[int, ...]] = {
    "mobilenet_v2": (3, 6, 13, 18),
    "mobilenet_v3_large": (3, 6, 12, 16),
    "efficientnet_b0": (2, 3, 5, 8),
    "efficientnet_v2_s": (2, 3, 5, 7),
}
"""The last block at a resolution of 1/4, 1/8, 1/16 and 1/32, as the stages of a ResNet end."""


class InstanceBatchNorm(nn.Module):
    """Instance norm for the first half of the channels, batch norm for the others; names as in the published files."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._first = channels // 2
        self.IN = nn.InstanceNorm2d(self._first, affine=True)
        self.BN = nn.BatchNorm2d(channels - self._first)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        first, second = features[:, : self._first], features[:, self._first :]
        return torch.cat([self.IN(first), self.BN(second)], dim=1)


class NonLocal(nn.Module):
    """A non-local block (Wang et al., "Non-local Neural Networks", CVPR 2018, equation 6) of one inner channel.

    So fast-reid's AGW and SBS have it, and so their files name its parameters.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g, self.theta, self.phi = (nn.Conv2d(channels, 1, 1) for _ in range(3))
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), nn.BatchNorm2d(channels))
        nn.init.zeros_(self.W[1].weight)  # type: ignore[arg-type] # so that a new one passes its input on

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same: each place gets the mean of all places, weighed by how they agree with it."""
        values, own, others = (layer(features).flatten(2) for layer in (self.g, self.theta, self.phi))
        gathered = own.transpose(1, 2) @ others @ values.transpose(1, 2) / values.shape[2]
        mapped: Tensor = self.W(gathered.transpose(1, 2).unflatten(2, features.shape[2:])) + features
        return mapped


NON_LOCAL = {
    "resnet50": {"layer2": (2, 3), "layer3": (3, 4, 5)},
    "resnet101": {"layer2": (2, 3), "layer3": tuple(range(14, 23))},
}
"""The blocks that a non-local block follows in fast-reid."""


def make_resnet(
    name: str,
    *,
    ibn: bool,
    last_stride: Literal[1, 2],
    stem_relu: bool,
    stem_pooling: StemPooling = "padded",
    non_local: bool = False,
) -> StagedChain:
    """A ResNet in four stages, with torchvision's parameter names.

    Args:
        name: torchvision's name.
        ibn: The first batch norm of each block in the first three stages is half instance norm (IBN-a).
        last_stride: Stride of the last stage.
        stem_relu: ReLU after the first batch norm.
        stem_pooling: Of the stem's max pooling.
        non_local: Non-local blocks behind the blocks that `NON_LOCAL` lists.
    """
    full = getattr(torchvision.models, name)(weights=None)
    channels: int = full.fc.in_features
    if ibn:
        for block in (block for stage in IBN_STAGES for block in full.get_submodule(stage).children()):
            norm = block.get_submodule("bn1")
            assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 - so torchvision builds its blocks
            block.bn1 = InstanceBatchNorm(norm.num_features)
    if last_stride == 1:
        for module in full.layer4[0].modules():
            if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                module.stride = (1, 1)
    children: dict[str, Any] = dict(full.named_children())
    if stem_pooling == "ceil":
        children["maxpool"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    elif stem_pooling == "even":
        children["maxpool"] = nn.MaxPool2d(2)
    if not stem_relu:
        children["relu"] = nn.Identity()
    stem = ("conv1", "bn1", "relu", "maxpool")
    modules = {each: children[each] for each in (*stem, *STAGES)}
    order: dict[str, tuple[str, ...]] = {stage: (stage,) for stage in STAGES}
    for stage, blocks in (NON_LOCAL[name] if non_local else {}).items():
        width = children[stage][0].downsample[0].out_channels
        added = f"NL_{stage[-1]}"
        modules[added] = nn.ModuleList(NonLocal(width) for _ in blocks)
        behind = {block: (f"{added}.{number}",) for number, block in enumerate(blocks)}
        order[stage] = tuple(
            step for number in range(len(children[stage])) for step in (f"{stage}.{number}", *behind.get(number, ()))
        )
    return StagedChain(
        modules,
        order=(*stem, *(step for steps in order.values() for step in steps)),
        ends=tuple(steps[-1] for steps in order.values()),
        channels=channels,
        head_prefixes=("fc.", "classifier."),
    )


def check_ibn_size(name: str, height: int, width: int) -> None:
    """Check that every instance norm of an IBN-a form sees more than one pixel: of one alone nothing is left.

    Raises:
        UsageError: The images, of `height` and `width` in pixels, are too small.
    """
    if max(height, width) <= LAST_INSTANCE_NORM:
        raise UsageError(
            f"{name} can't take images of {height}×{width}: its third stage has one pixel left to normalise over.",
            f"Choose model.height or model.width above {LAST_INSTANCE_NORM}: 256×128 is usual.",
        )


def make_mobile(name: str) -> StagedChain:
    """A MobileNet or EfficientNet, a chain of blocks called `features`, in four stages with torchvision's names."""
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
