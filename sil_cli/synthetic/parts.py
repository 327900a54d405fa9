"""A tube with its place in the order of drawing."""

from __future__ import annotations

from dataclasses import dataclass

from sil_cli.synthetic.tube import Tube


@dataclass(frozen=True)
class Part:
    """One part of a figure.

    Attributes:
        layer: Parts are drawn from the lowest layer to the highest; around 0 it is the depth in body heights.
        tube: Its shape and texture.
    """

    layer: float
    tube: Tube
