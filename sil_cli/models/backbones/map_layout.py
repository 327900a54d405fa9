"""How other people's modules hold a feature map: channels first, channels last, or as a row of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROOM = 5
"""By how many rows or columns a map may miss the image's over its reduction: convolutions without padding take some."""


@dataclass(frozen=True)
class MapLayout:
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


def find_layout(
    output: object, *, net: object, image: tuple[int, int], channels: int, reduction: int
) -> MapLayout | None:
    """How an output of a timm model holds a map of so many channels, `reduction` times smaller than the image.

    Args:
        output: What one of the model's modules gave.
        net: The model, which may tell of its prefix tokens, its patches, and whether channels are last.
        image: Height and width of the images in pixels.
        channels: Of the map.
        reduction: Of the map.

    Returns:
        None when it holds none: it is no tensor, has other channels, another size, or tokens that are no patches and
        that the model doesn't tell of.
    """
    if not isinstance(output, Tensor):
        return None
    if output.ndim == 4:
        says_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
        maps = [MapLayout(channels_last=last) for last in (says_last, not says_last)]
        return next((layout for layout in maps if _fits(layout.map_in(output), channels, reduction, image)), None)
    if output.ndim != 3 or output.shape[2] != channels:
        return None
    height, width = image
    # What is left over at the edges of an image is left away, or padded.
    grids = [(height // reduction, width // reduction), (-(-height // reduction), -(-width // reduction))]
    known = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    for rows, columns in [tuple(known), *grids] if known is not None else grids:
        prefix = output.shape[1] - rows * columns
        if prefix in (0, int(getattr(net, "num_prefix_tokens", 0))):
            return MapLayout(grid=(rows, columns), prefix=prefix)
    return None


def _fits(found: Tensor, channels: int, reduction: int, image: tuple[int, int]) -> bool:
    sides = zip(found.shape[2:], image, strict=True)
    return found.shape[1] == channels and all(abs(side - pixels / reduction) <= ROOM for side, pixels in sides)
