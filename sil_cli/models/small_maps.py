"""Convolutions over few pixels, computed as one matrix product.

oneDNN, by which torch convolves on CPUs, is slow where a map is a few pixels small: forward and backward of a 3×3
convolution of 512 channels over 96 maps of 2×1 took 103 ms on a core of a Xeon of the Sapphire Rapids class in bfloat16
and 102 ms in float32; this takes 9 and 15 ms. Over 4×2 pixels it is 2.5 times as fast with 512 channels and 1.3 times
with 256; over 8×4 it is slower (torch 2.14.1). The last stages of a ResNet at 64×32 have such maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_PIXELS = 8
"""Results of so many pixels are multiplied, larger ones convolved."""


class SmallMapConv2d(nn.Conv2d):
    """A convolution that is a matrix product where its result is small and a CPU computes it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        """The convolution's result, to rounding."""
        (rows, height), (columns, width) = (self._taps(input, axis) for axis in (0, 1))
        if input.device.type != "cpu" or height * width > MOST_PIXELS or not (rows and columns):
            return super().forward(input)
        (down, right), (above, beside) = self.stride, map(int, self.padding)
        padded = F.pad(input.permute(0, 2, 3, 1), (0, 0, beside, beside, above, above))  # channels last
        seen = [
            padded[:, row : row + down * (height - 1) + 1 : down, column : column + right * (width - 1) + 1 : right]
            for row in rows
            for column in columns
        ]
        weight = self.weight.permute(0, 2, 3, 1)[:, rows.start : rows.stop, columns.start : columns.stop]
        found = F.linear(torch.cat(seen, dim=3), weight.flatten(1), self.bias)
        return found.permute(0, 3, 1, 2)

    def _taps(self, features: Tensor, axis: int) -> tuple[range, int]:
        """Along an axis: which of the kernel's taps may meet a value and not only padding; and the result's size."""
        size, kernel = features.shape[2 + axis], self.kernel_size[axis]
        padding, stride = int(self.padding[axis]), self.stride[axis]
        results = (size + 2 * padding - kernel) // stride + 1
        first = max(0, padding - stride * (results - 1))
        last = min(kernel, padding + size) if results > 0 else first
        return range(first, last), results


def multiply_small_maps(module: nn.Module) -> None:
    """Let the convolutions inside a module choose; parameters and their names stay."""
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _can_be_multiplied(layer):
            layer.__class__ = SmallMapConv2d


def _can_be_multiplied(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
