"""How other people's modules hold a feature map: channels first, channels last, or as a row of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOM = 5
"""By how many rows or columns a map may miss the image's over its reduction: convolutions without padding take some."""


@dataclass(frozen=True)
class Layout:
    """Where in an output a map (B, C, h, w) lies.

    Attributes:
        channels_last: The output is (B, h, w, C).
        grid: Rows and columns of an output (B, prefix + rows·columns, C); None when the output is a map.
        prefix: Tokens before the patches': the class token and registers.
    """

    channels_last: bool = False
    grid: tuple[int, int] | None = None
    prefix: int = 0

    def map_in(self, output: Tensor) -> Tensor:
        """The map (B, C, h, w)."""
        if self.grid is None:
            return output.permute(0, 3, 1, 2) if self.channels_last else output
        patches = output[:, self.prefix :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *self.grid)

    def with_map(self, output: Tensor, styled: Tensor) -> Tensor:
        """The output with another map of the same shape, prefix tokens as they were."""
        if self.grid is None:
            return styled.permute(0, 2, 3, 1) if self.channels_last else styled
        positions = torch.arange(self.prefix, output.shape[1], device=output.device)
        return output.clone().index_copy_(1, positions, styled.flatten(2).transpose(1, 2))


@dataclass(frozen=True)
class Surroundings:
    """What is known of a network whose outputs are looked at.

    Attributes:
        image: Height and width of the images in pixels.
        prefix_tokens: Tokens that it may have before the patches'.
        patches: Rows and columns of its patches; None where it doesn't say.
        channels_last: It says that its maps are (B, h, w, C).
    """

    image: tuple[int, int]
    prefix_tokens: int = 0
    patches: tuple[int, int] | None = None
    channels_last: bool = False


def layout_of(output: object, *, channels: int, reduction: int, around: Surroundings) -> Layout | None:
    """How an output holds a map of so many channels, `reduction` times smaller than the image.

    Returns:
        None when it holds none: it is no tensor, has other channels, another size, or tokens that are no patches and
        that the network doesn't tell of.
    """
    if not isinstance(output, Tensor):
        return None
    if output.ndim == 3 and output.shape[2] == channels:
        return _layout_of_tokens(output.shape[1], reduction, around)
    if output.ndim != 4:
        return None
    maps = [Layout(channels_last=last) for last in (around.channels_last, not around.channels_last)]
    return next((layout for layout in maps if _fits(layout.map_in(output), channels, reduction, around.image)), None)


def _fits(found: Tensor, channels: int, reduction: int, image: tuple[int, int]) -> bool:
    sides = zip(found.shape[2:], image, strict=True)
    return found.shape[1] == channels and all(abs(side - pixels / reduction) <= ROOM for side, pixels in sides)


def _layout_of_tokens(count: int, reduction: int, around: Surroundings) -> Layout | None:
    for rows, columns in _grids(reduction, around):
        prefix = count - rows * columns
        if prefix in (0, around.prefix_tokens):
            return Layout(grid=(rows, columns), prefix=prefix)
    return None


def _grids(reduction: int, around: Surroundings) -> Iterator[tuple[int, int]]:
    """Into which grids patches may have been cut: what is left over at the edges is left away, or padded."""
    if around.patches is not None:
        yield around.patches
    height, width = around.image
    yield height // reduction, width // reduction
    yield -(-height // reduction), -(-width // reduction)
