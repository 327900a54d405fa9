"""Convolutions computed as matrix products, where oneDNN, by which torch convolves on CPUs, takes longer.

**Over few pixels.** Forward and backward of a 3×3 convolution of 512 channels over 96 maps of 2×1 took 32 ms on a core
of a Xeon of the Sapphire Rapids class in bfloat16 and 44 ms in float32; this takes 6 and 13 ms. Over 4×2 pixels it is
1.6 times as fast in bfloat16 and no faster in float32; over 8×4 it is slower (torch 2.14.1). The last stages of a
ResNet at 64×32 have such maps.

**Pixel by pixel**, a kernel of 1×1 in bfloat16: a whole training step of a ResNet-50 at 256×128 takes about 6 % less
time there, and kernels that have a stride half to two thirds of theirs (docs/benchmarks.md). With few or odd numbers
of channels, as MobileNet has them, nothing was gained.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PIXELS = 8
"""Results of so many pixels are one product, whatever the kernel."""

LEAST_PIXELS = 128
"""Of so many pixels and more what a kernel of 1×1 does is known to be quicker as a product."""

CHANNELS = 64
"""And of whole multiples of so many channels, both in and out."""


class ProductConv2d(nn.Conv2d):
    """A convolution that is a matrix product where a CPU computes that more quickly."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        """The convolution's result, to rounding."""
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        (rows, row_taps), (columns, column_taps) = self._axis(input, 0), self._axis(input, 1)
        few = rows * columns <= MOST_PIXELS and row_taps and column_taps
        if few or (rows * columns >= LEAST_PIXELS and _suits_pixelwise(self, input)):
            return _multiply(self, input, (rows, columns), (row_taps, column_taps))
        return super().forward(input)

    def _axis(self, maps: Tensor, axis: int) -> tuple[int, range]:
        """Results along an axis, and those of the kernel's taps that may meet a value there, and not only padding."""
        size, kernel, stride = maps.shape[2 + axis], self.kernel_size[axis], self.stride[axis]
        padding = int(self.padding[axis])
        results = (size + 2 * padding - kernel) // stride + 1
        first = padding - stride * (results - 1)
        return results, range(max(0, first), min(kernel, padding + size)) if results > 0 else range(0)


@contextlib.contextmanager
def convolutions_as_such(module: nn.Module) -> Iterator[None]:
    """Let the convolutions inside a module compute as torch does, until the end of the block."""
    layers: list[nn.Module] = [layer for layer in module.modules() if type(layer) is ProductConv2d]
    for layer in layers:
        layer.__class__ = nn.Conv2d
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = ProductConv2d


def multiply_where_quicker(module: nn.Module) -> None:
    """Let the convolutions inside a module choose; parameters and their names stay."""
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _can_be_multiplied(layer):
            layer.__class__ = ProductConv2d


def _can_be_multiplied(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _suits_pixelwise(layer: nn.Conv2d, maps: Tensor) -> bool:
    """Whether this is a kernel of 1×1 in bfloat16, of maps in which each pixel's channels lie together."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else maps.dtype
    wide = layer.in_channels % CHANNELS == layer.out_channels % CHANNELS == 0
    pixelwise = layer.kernel_size == (1, 1) and layer.padding == (0, 0)
    return pixelwise and wide and kind == torch.bfloat16 and maps.is_contiguous(memory_format=torch.channels_last)


def _multiply(layer: nn.Conv2d, maps: Tensor, results: tuple[int, int], taps: tuple[range, range]) -> Tensor:
    """The values under the kernel, a row for each pixel of the result, times the taps that meet any."""
    margins: list[int] = []
    for axis in (1, 0):  # F.pad begins with the last axis; what lies behind the last result is cut off
        before = int(layer.padding[axis]) - taps[axis].start
        spanned = (results[axis] - 1) * layer.stride[axis] + len(taps[axis])
        margins += [before, spanned - maps.shape[2 + axis] - before]
    values = (F.pad(maps, margins) if any(margins) else maps).permute(0, 2, 3, 1)  # channels last
    met = [values[:, row:, column:] for row in range(len(taps[0])) for column in range(len(taps[1]))]
    met = [each[:, :: layer.stride[0], :: layer.stride[1]][:, : results[0], : results[1]] for each in met]
    under = torch.cat(met, dim=3) if len(met) > 1 else met[0]
    kernel = layer.weight[:, :, taps[0].start : taps[0].stop, taps[1].start : taps[1].stop]
    kernel = kernel.permute(0, 2, 3, 1).flatten(1)
    found = F.linear(under.reshape(-1, under.shape[3]), kernel, layer.bias)
    return found.view(len(maps), *results, -1).permute(0, 3, 1, 2)
