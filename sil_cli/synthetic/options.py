"""What a user may choose about the generated camera networks."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sil_cli.errors import UsageError

# name: (smallest, largest); the largest keep a slip of the finger from filling a disk.
_LIMITS = {
    "domains": (1, 100),
    "train_identities": (1, 100_000),
    "test_identities": (1, 100_000),
    "cameras": (2, 64),
    "images_per_camera": (2, 1_000),
    "height": (32, 512),
    "width": (16, 512),
    "seed": (0, 2**32 - 1),
}
_LARGEST_GAP = 2.0


@dataclass(frozen=True)
class SyntheticOptions:
    """How many networks, people, cameras and images to draw, and how far apart the networks look.

    Attributes:
        domains: The number of camera networks, 1 to 100.
        train_identities: The people to learn from in each network, at least 1.
        test_identities: Other people to search for in each network, at least 1.
        cameras: The cameras of each network, at least 2; a person may miss some, never all but one.
        images_per_camera: The images of each person by each camera that sees them, at least 2.
        style_gap: The strength of each network's own style, 0 to 2; at 0 all share one neutral style.
        height: The images' height in pixels, 32 to 512.
        width: The images' width in pixels, 16 to 512, no more than the height.
        seed: Another seed draws other people, places and styles; 0 to 2³² − 1.

    Raises:
        UsageError: A value is out of its range.
    """

    domains: int = 4
    train_identities: int = 64
    test_identities: int = 36
    cameras: int = 4
    images_per_camera: int = 3
    style_gap: float = 1.0
    height: int = 128
    width: int = 64
    seed: int = 1

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise UsageError(
                    f"{name} = {value!r} can't be drawn.", f"Give {name} a whole number from {low} to {high}."
                )
        if not (math.isfinite(self.style_gap) and 0 <= self.style_gap <= _LARGEST_GAP):
            raise UsageError(
                f"style_gap = {self.style_gap!r} can't be drawn.",
                f"Give style_gap a number from 0 (all networks look alike) to {_LARGEST_GAP:g}.",
            )
        if self.width > self.height:
            raise UsageError(
                f"width = {self.width} is more than height = {self.height}.",
                "People stand upright: give a width of no more than the height.",
            )

    def as_dict(self) -> dict[str, Any]:
        """The options as JSON values."""
        return asdict(self)
