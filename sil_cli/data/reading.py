"""What a reader hands over: records of a raw data set, before any image has been opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.data.manifest import ImageRecord, Skipped


SYNTHETIC = "synthetic"
"""What takes the place of a reader's name where networks are drawn."""


@dataclass(frozen=True)
class Reading:
    """The records that one reader found.

    Attributes:
        name: The domain's name ("market1501").
        reader: The reader's name.
        root: The folder that record paths are relative to.
        records: In a fixed order that depends on the files alone.
        skipped: The files that the reader itself left out, and why.
        options: The options that it was called with (JSON values).
        generated: The people are drawn, not photographed.
        reader_version: Raised whenever the reader would give other records for the same files.
        warnings: What the reader took for what, where that could be meant otherwise; one line each.
    """

    name: str
    reader: str
    root: Path
    records: Sequence[ImageRecord]
    skipped: Sequence[Skipped] = ()
    options: dict[str, Any] = field(default_factory=dict)
    generated: bool = False
    reader_version: int = 1
    warnings: Sequence[str] = ()
