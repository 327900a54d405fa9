"""How sources are to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sil_cli.gallery.ingest.names import compile_names, read_name
from sil_cli.gallery.ingest.times import TimeReader, find_zone

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping
    from pathlib import Path

    from sil_cli.settings import GallerySettings

Tracklets = Literal["off", "named", "folder"]


@dataclass(frozen=True)
class IngestOptions:
    """How sources are to be read.

    Attributes:
        root: The folder that paths of tables and lists are relative to; None for the table's own, or the working one.
        names: What is read from paths.
        times: Reads times, and knows the zone of those that don't say theirs.
        exif: Read the time and camera that nothing else says from EXIF tags.
        tracklets: Which images are one sighting: each on its own, those of one tracklet name, or those of one folder.
    """

    root: Path | None = None
    names: re.Pattern[str] | None = None
    times: TimeReader = field(default_factory=TimeReader)
    exif: bool = False
    tracklets: Tracklets = "off"

    def named(self, path: str) -> Mapping[str, str] | None:
        """What the path says; None where there is a pattern that doesn't match it."""
        return {} if self.names is None else read_name(path, self.names)


def ingest_options(gallery: GallerySettings) -> IngestOptions:
    """The options that the settings ask for.

    Raises:
        UsageError: The pattern, the time format or the zone is none.
    """
    return IngestOptions(
        root=gallery.root,
        names=compile_names(gallery.pattern) if gallery.pattern is not None else None,
        times=TimeReader(gallery.time_format, find_zone(gallery.timezone)),
        exif=gallery.exif,
        tracklets=gallery.tracklets,
    )
