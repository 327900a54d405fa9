"""Convolutions computed as matrix products, where oneDNN, by which torch convolves on CPUs, takes longer.

**Over few pixels**, as one product. Forward and backward of a 3×3 convolution of 512 channels over 96 maps of 2×1 took
103 ms on a core of a Xeon of the Sapphire Rapids class in bfloat16 and 102 ms in float32; this takes 7 and 12 ms. Over
4×2 pixels it is 4.6 times as fast in bfloat16 with 512 channels and three times with 256; over 8×4 it is slower (torch
2.14.1). The last stages of a ResNet at 64×32 have such maps.

**Pixel by pixel**, a kernel of 1×1 in bfloat16: a whole training step of a ResNet-50 at 256×128 takes about 6 % less
time there, and kernels that have a stride half to two thirds of theirs (docs/benchmarks.md). With few or odd numbers
of channels, as MobileNet has them, nothing was gained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        """The convolution's result, to rounding; it can be differentiated once."""
        across = [
            _Axis(input.shape[2 + axis], self.kernel_size[axis], self.stride[axis], int(self.padding[axis]))
            for axis in (0, 1)
        ]
        window = _Window(*across)
        if input.device.type != "cpu" or torch.compiler.is_compiling():  # exported, it is to stay a convolution
            return super().forward(input)
        if window.pixels <= MOST_PIXELS and window.taps:
            found: Tensor = _Multiply.apply(input, self.weight, window)
            return found if self.bias is None else found + self.bias.to(found.dtype).view(-1, 1, 1)
        if window.is_pixelwise and window.pixels >= LEAST_PIXELS and _suits_products(self, input):
            return _multiply_pixels(input, self)
        return super().forward(input)


def multiply_where_quicker(module: nn.Module) -> None:
    """Let the convolutions inside a module choose; parameters and their names stay."""
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _can_be_multiplied(layer):
            layer.__class__ = ProductConv2d


def _suits_products(layer: nn.Conv2d, maps: Tensor) -> bool:
    """Whether a kernel of 1×1 is a quick product of these maps: in bfloat16, and each pixel's channels lie together."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else maps.dtype
    wide = layer.in_channels % CHANNELS == layer.out_channels % CHANNELS == 0
    return wide and kind == torch.bfloat16 and maps.is_contiguous(memory_format=torch.channels_last)


def _multiply_pixels(maps: Tensor, layer: nn.Conv2d) -> Tensor:
    """A kernel of 1×1 without padding, over maps (B, C, H, W) in which each pixel's channels lie together."""
    values = maps.permute(0, 2, 3, 1)
    if layer.stride != (1, 1):
        values = _Every.apply(values, layer.stride)
    found = nn.functional.linear(values.reshape(-1, layer.in_channels), layer.weight.flatten(1), layer.bias)
    return found.view(*values.shape[:3], -1).permute(0, 3, 1, 2)


class _Every(torch.autograd.Function):
    """Of values (B, H, W, C) those of every n-th row and column; autograd's own fills two whole maps with zeros."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, stride: tuple[int, int]) -> Tensor:
        ctx.stride, ctx.whole = stride, values.shape
        return values[:, :: stride[0], :: stride[1]].contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, columns = ctx.stride
        whole = gradient.new_zeros(ctx.whole)
        whole[:, ::rows, ::columns] = gradient
        return whole, None


def _can_be_multiplied(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class _Axis(NamedTuple):
    """One axis of a convolution."""

    size: int
    kernel: int
    stride: int
    padding: int

    @property
    def results(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def taps(self) -> range:
        """Those of the kernel's taps that may meet a value, and not only padding."""
        if self.results < 1:
            return range(0)
        first = self.padding - self.stride * (self.results - 1)
        return range(max(0, first), min(self.kernel, self.padding + self.size))

    def meets(self, tap: int) -> tuple[slice, slice]:
        """Which results a tap has a value for, and which values those are."""
        offset = tap - self.padding
        first = max(0, -(offset // self.stride))
        last = min(self.results - 1, (self.size - 1 - offset) // self.stride)
        count = max(0, last - first + 1)
        start = first * self.stride + offset
        return slice(first, first + count), slice(start, start + count * self.stride, self.stride)


class _Window(NamedTuple):
    """Both axes: rows and columns."""

    rows: _Axis
    columns: _Axis

    @property
    def pixels(self) -> int:
        return self.rows.results * self.columns.results

    @property
    def is_pixelwise(self) -> bool:
        return all((each.kernel, each.padding) == (1, 0) for each in self)

    @property
    def taps(self) -> int:
        return len(self.rows.taps) * len(self.columns.taps)

    @property
    def alive(self) -> tuple[slice, ...]:
        """Of a kernel (out, rows, columns, in) the taps that may meet a value."""
        return slice(None), *(slice(each.start, each.stop) for each in (self.rows.taps, self.columns.taps))

    def pairs(self) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """For each tap its number, and which results (B, rows, columns) have which values in it."""
        number = 0
        for row in self.rows.taps:
            for column in self.columns.taps:
                down, across = self.rows.meets(row), self.columns.meets(column)
                yield number, (slice(None), down[0], across[0]), (slice(None), down[1], across[1])
                number += 1


class _Multiply(torch.autograd.Function):
    """The values under the kernel, a row for each pixel of the result, times the kernel.

    Written out, since what autograd makes of slices fills a whole map, or a whole kernel, with zeros for each of them.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, window: _Window) -> Tensor:
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
        values = maps.permute(0, 2, 3, 1)  # channels last
        images, _, _, channels = values.shape
        seen = values.new_zeros(images, window.rows.results, window.columns.results, window.taps, channels, dtype=half)
        for tap, results, met in window.pairs():
            seen[results][..., tap, :] = values[met]
        seen = seen.view(images * window.pixels, -1)
        kernel = weight.permute(0, 2, 3, 1)[window.alive].to(half, memory_format=torch.contiguous_format).flatten(1)
        ctx.save_for_backward(seen, kernel)
        ctx.window, ctx.maps, ctx.weight = window, maps.shape, weight.dtype
        found = seen @ kernel.t()
        return found.view(images, window.rows.results, window.columns.results, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        seen, kernel = ctx.saved_tensors
        window: _Window = ctx.window
        images, channels, height, width = ctx.maps
        rows = gradient.permute(0, 2, 3, 1).reshape(len(seen), -1)
        of_maps = of_weight = None
        if ctx.needs_input_grad[0]:
            of_seen = (rows @ kernel).view(images, window.rows.results, window.columns.results, window.taps, channels)
            values = of_seen.new_zeros(images, height, width, channels)
            for tap, results, met in window.pairs():
                values[met] += of_seen[results][..., tap, :]
            of_maps = values.permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            alive = (rows.t() @ seen).view(-1, len(window.rows.taps), len(window.columns.taps), channels)
            whole = seen.new_zeros(len(alive), window.rows.kernel, window.columns.kernel, channels, dtype=ctx.weight)
            whole[window.alive] = alive.to(ctx.weight)
            of_weight = whole.permute(0, 3, 1, 2)
        return of_maps, of_weight, None
