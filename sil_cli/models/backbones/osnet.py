"""OSNet (Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019).

Written from the papers: OSNet-IBN and OSNet-AIN are of "Learning Generalisable Omni-Scale Representations for Person
Re-Identification" (TPAMI 2021). Modules are named as in the files that torchreid publishes of OSNet and OSNet-IBN, so
that those load; those of OSNet-AIN are renamed by `models.families`.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sil_cli.models.backbones.staged import StagedChain

OSNET_WIDTHS = {
    "x1_0": (64, 256, 384, 512),
    "x0_75": (48, 192, 288, 384),
    "x0_5": (32, 128, 192, 256),
    "x0_25": (16, 64, 96, 128),
}
"""Channels of the stem and of the three stages of bottlenecks (the paper's table 1 and its multipliers)."""

BOTTLENECKS = 2
REDUCTION = 4
GATE_REDUCTION = 16
SCALES = 4

InstanceNorm = Literal["none", "after", "inside"]
"""Where a bottleneck has an instance norm: nowhere, after the sum with its input, or in the residual before it."""

INSTANCE_NORMS: dict[str, tuple[InstanceNorm, ...]] = {
    "osnet": ("none",) * 6,
    "osnet_ibn": ("after", "after", "none", "none", "none", "none"),
    "osnet_ain": ("inside", "inside", "none", "inside", "inside", "none"),
}
"""Of the six bottlenecks; where the first has one, so has the stem. OSNet-AIN's are those that its search found."""


class ConvNorm(nn.Module):
    """Convolution with a square kernel and a norm, batch norm unless another is given; then a ReLU unless linear."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int = 1,
        *,
        stride: int = 1,
        padding: int = 0,
        linear: bool = False,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs) if norm is None else norm
        self.relu = nn.Identity() if linear else nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        mapped: Tensor = self.relu(self.bn(self.conv(features)))
        return mapped


class LightConv(nn.Module):
    """The paper's Lite 3×3: a pointwise convolution, then a depthwise one (its figure 3b)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        mapped: Tensor = self.relu(self.bn(self.conv2(self.conv1(features))))
        return mapped


class AggregationGate(nn.Module):
    """The unified aggregation gate: channel weights from pooled features, shared by all scales (its equation 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // GATE_REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // GATE_REDUCTION, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh the channels of (B, C, H, W)."""
        pooled = features.mean(dim=(2, 3), keepdim=True)
        weights: Tensor = self.fc2(self.fc1(pooled).relu()).sigmoid()
        return features * weights


class OmniScaleBlock(nn.Module):
    """The bottleneck with streams of one to four light convolutions, gated and added (its figure 4)."""

    def __init__(self, inputs: int, outputs: int, instance_norm: InstanceNorm = "none") -> None:
        super().__init__()
        middle = outputs // REDUCTION
        self._inside = instance_norm == "inside"
        self.conv1 = ConvNorm(inputs, middle)
        self.conv2a: nn.Module = LightConv(middle, middle)
        self.conv2b, self.conv2c, self.conv2d = (
            nn.Sequential(*(LightConv(middle, middle) for _ in range(length))) for length in range(2, SCALES + 1)
        )
        self.gate = AggregationGate(middle)
        self.conv3 = ConvNorm(middle, outputs, linear=True, norm=nn.Identity() if self._inside else None)
        self.downsample = ConvNorm(inputs, outputs, linear=True) if inputs != outputs else nn.Identity()
        self.IN: nn.Module = nn.Identity()
        if instance_norm != "none":
            self.IN = nn.InstanceNorm2d(outputs, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        reduced = self.conv1(features)
        streams = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        scales = sum(self.gate(stream(reduced)) for stream in streams)
        residual, kept = self.conv3(scales), self.downsample(features)
        mapped: Tensor = self.IN(residual) + kept if self._inside else self.IN(residual + kept)
        return mapped.relu()


def make_osnet(name: str) -> StagedChain:
    """An OSNet in four stages: three of bottlenecks, and the last pointwise convolution.

    Maps are (B, channels, H/16, W/16). The fully connected layer that the published files have behind the pooling is
    no part of the backbone.
    """
    kind, _, width = name.rpartition("_x")
    norms = INSTANCE_NORMS[kind]
    stem, *widths = OSNET_WIDTHS[f"x{width}"]
    stem_norm = nn.InstanceNorm2d(stem, affine=True) if norms[0] != "none" else None
    modules: dict[str, nn.Module] = {
        "conv1": ConvNorm(3, stem, 7, stride=2, padding=3, norm=stem_norm),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    inputs = stem
    for number, outputs in enumerate(widths):
        first = BOTTLENECKS * number
        blocks: list[nn.Module] = [OmniScaleBlock(inputs, outputs, norms[first])]
        blocks += [OmniScaleBlock(outputs, outputs, norms[first + later]) for later in range(1, BOTTLENECKS)]
        if number < len(widths) - 1:
            blocks.append(nn.Sequential(ConvNorm(outputs, outputs), nn.AvgPool2d(2, stride=2)))
        modules[f"conv{number + 2}"] = nn.Sequential(*blocks)
        inputs = outputs
    modules["conv5"] = ConvNorm(inputs, inputs)
    chain = StagedChain(
        modules,
        order=tuple(modules),
        ends=("conv2", "conv3", "conv4", "conv5"),
        channels=inputs,
        head_prefixes=("fc.", "classifier."),
    )
    for module in chain.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return chain
