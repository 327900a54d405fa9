"""One image on its way into a gallery, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sil_cli.data.images import Box


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image as a source names it; what is unknown is None.

    Attributes:
        root: The source's folder, resolved.
        path: Relative to `root`, with forward slashes.
        box: (left, top, width, height) in pixels to cut out, None for the whole image.
        identity: The person.
        camera: The camera.
        time: When it was taken, in UTC.
        domain: The camera network.
        tracklet: The sighting that it is one of several images of.
        metadata: Whatever else the source says, text by name.
    """

    root: Path
    path: str
    box: Box | None = None
    identity: str | None = None
    camera: str | None = None
    time: datetime | None = None
    domain: str | None = None
    tracklet: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where the image lies."""
        return self.root / self.path

    def filled_from(self, other: SeenImage) -> SeenImage:
        """This image with what only `other` knows of it."""
        return replace(
            self,
            identity=self.identity if self.identity is not None else other.identity,
            camera=self.camera if self.camera is not None else other.camera,
            time=self.time if self.time is not None else other.time,
            domain=self.domain if self.domain is not None else other.domain,
            tracklet=self.tracklet if self.tracklet is not None else other.tracklet,
            metadata={**other.metadata, **self.metadata},
        )

    def contradicted_by(self, other: SeenImage) -> str | None:
        """The first thing that both know and `other` knows differently: `camera c2, not c1`; None where they agree."""
        known = _facts(self)
        for name, value in _facts(other).items():
            if name in known and known[name] != value:
                return f"{name} {value}, not {known[name]}"
        return None


def _facts(image: SeenImage) -> dict[str, str]:
    """All that is known of an image, in words."""
    time = image.time.isoformat() if image.time is not None else None
    named = {"identity": image.identity, "camera": image.camera, "time": time, "domain": image.domain}
    every = {**named, "tracklet": image.tracklet, **image.metadata}
    return {name: value for name, value in every.items() if value is not None}


def parse_box(text: str) -> Box:
    """A box from `left,top,width,height` in pixels.

    Raises:
        ValueError: These aren't four numbers, or width and height aren't above zero.
    """
    parts = text.replace(";", ",").replace(" ", ",").split(",")
    numbers = [round(float(part)) for part in parts if part]
    if len(numbers) != 4:
        raise ValueError("a box is left,top,width,height in pixels")
    left, top, width, height = numbers
    if width < 1 or height < 1:
        raise ValueError("a box has a width and a height above zero")
    return left, top, width, height
