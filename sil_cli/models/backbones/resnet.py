"""ResNets (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016), with re-identification's additions.

Parameters are named, ordered and drawn as torchvision's are, whose files are published for them; the stride of a
bottleneck is at its 3×3 convolution, as there. Importing torchvision would take longer than a query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from sil_cli.errors import UsageError
from sil_cli.models.backbones.staged import StagedChain

if TYPE_CHECKING:
    from sil_cli.models.record import StemPooling

STAGES = ("layer1", "layer2", "layer3", "layer4")
IBN_STAGES = STAGES[:3]
"""IBN-a leaves the last stage as it is: what appearance taught is to be kept there."""

LAST_INSTANCE_NORM = 16
"""How many times smaller than the image the map is that the last of the instance norms sees."""

STEM_WIDTH = 64
CLASSES = 1000
"""Of ImageNet."""


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


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around which the input passes by (its figure 5, left)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H/stride, W/stride)."""
        mapped = self.relu(self.bn1(self.conv1(features)))
        mapped = self.bn2(self.conv2(mapped))
        mapped += features if self.downsample is None else self.downsample(features)
        result: Tensor = self.relu(mapped)
        return result


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1, around which the input passes by (its figure 5, right)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 4 width, H/stride, W/stride)."""
        mapped = self.relu(self.bn1(self.conv1(features)))
        mapped = self.relu(self.bn2(self.conv2(mapped)))
        mapped = self.bn3(self.conv3(mapped))
        mapped += features if self.downsample is None else self.downsample(features)
        result: Tensor = self.relu(mapped)
        return result


BLOCKS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}
"""The kind of block, and how many a stage has (its table 1)."""

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
    modules = _plain_modules(name, last_stride)
    channels = STEM_WIDTH * 2 ** (len(STAGES) - 1) * BLOCKS[name][0].expansion
    if ibn:
        for block in (block for stage in IBN_STAGES for block in modules[stage].children()):
            norm = block.get_submodule("bn1")
            assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 - so the blocks are built
            block.bn1 = InstanceBatchNorm(norm.num_features)
    if stem_pooling == "ceil":
        modules["maxpool"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    elif stem_pooling == "even":
        modules["maxpool"] = nn.MaxPool2d(2)
    if not stem_relu:
        modules["relu"] = nn.Identity()
    stem = tuple(each for each in modules if each not in STAGES)
    order: dict[str, tuple[str, ...]] = {stage: (stage,) for stage in STAGES}
    for stage, blocks in (NON_LOCAL[name] if non_local else {}).items():
        length = len(list(modules[stage].children()))
        width = modules[stage].get_submodule(f"{length - 1}.bn3").num_features
        assert isinstance(width, int)  # noqa: S101 - a batch norm's
        added = f"NL_{stage[-1]}"
        modules[added] = nn.ModuleList(NonLocal(width) for _ in blocks)
        behind = {block: (f"{added}.{number}",) for number, block in enumerate(blocks)}
        order[stage] = tuple(
            step for number in range(length) for step in (f"{stage}.{number}", *behind.get(number, ()))
        )
    return StagedChain(
        modules,
        order=(*stem, *(step for steps in order.values() for step in steps)),
        ends=tuple(steps[-1] for steps in order.values()),
        channels=channels,
        head_prefixes=("fc.", "classifier."),
    )


def _plain_modules(name: str, last_stride: int) -> dict[str, nn.Module]:
    """Stem and stages with random weights, those that torchvision draws for the same seed."""
    block, lengths = BLOCKS[name]
    modules: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, STEM_WIDTH, 7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(STEM_WIDTH),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    inputs = STEM_WIDTH
    for number, (stage, length) in enumerate(zip(STAGES, lengths, strict=True)):
        stride = (1, 2, 2, last_stride)[number]
        modules[stage] = _stage(block, inputs, STEM_WIDTH * 2**number, length, stride, is_first=number == 0)
        inputs = STEM_WIDTH * 2**number * block.expansion
    nn.Linear(inputs, CLASSES)  # torchvision draws its classifier's weights here, so that those below differ without
    for module in (layer for each in modules.values() for layer in each.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return modules


def _stage(
    block: type[BasicBlock | Bottleneck], inputs: int, width: int, length: int, stride: int, *, is_first: bool
) -> nn.Sequential:
    outputs = width * block.expansion
    downsample = None
    if inputs != outputs or not is_first:
        convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        downsample = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
    blocks = [block(inputs, width, stride, downsample)]
    blocks += [block(outputs, width, 1, None) for _ in range(1, length)]
    return nn.Sequential(*blocks)


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
