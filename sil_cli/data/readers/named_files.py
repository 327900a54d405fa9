"""Images whose names say what they show, and the partitions of data sets that are tested on several."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sil_cli.data.manifest import ImageRecord, Skipped, Split
from sil_cli.data.walking import find_image_files
from sil_cli.errors import UsageError
from sil_cli.files import sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class NamedFile:
    """An image whose name says what it shows.

    Attributes:
        path: Relative to ROOT.
        folder: The one of the folders asked for that it lies below.
        match: The pattern's match of the file's name, folders left away.
    """

    path: str
    folder: str
    match: re.Match[str]

    def record(self, domain: str, split: Split, **facts: Any) -> ImageRecord:
        """Its record: the pattern's groups say identity, camera and frame where `facts` don't."""
        groups = self.match.groupdict()
        named = {key: groups[key] for key in ("identity", "camera", "frame") if key in groups}
        return ImageRecord.model_validate({"path": self.path, "split": split, "domain": domain} | named | facts)


def named_files(
    root: Path, folders: Iterable[str], pattern: re.Pattern[str], example: str
) -> tuple[list[NamedFile], list[Skipped]]:
    """Find the images below some folders and take their names apart.

    Args:
        root: The data set's folder.
        folders: Folders in it, in the order wanted; "" is ROOT itself.
        pattern: Must fit a file's whole name.
        example: A name that fits, for the reason why others are left out.

    Returns:
        The images whose names fit, by folder and then by path; and what was left out.
    """
    named: list[NamedFile] = []
    skipped: list[Skipped] = []
    for folder in folders:
        found = find_image_files(root / folder)
        before = f"{folder}/" if folder else ""
        skipped += [Skipped(path=before + skip.path, reason=skip.reason) for skip in found.skipped]
        for inner in found.paths:
            match = pattern.fullmatch(inner.rpartition("/")[2])
            if match is None:
                skipped.append(Skipped(path=before + inner, reason=f"not named like {example}"))
            else:
                named.append(NamedFile(before + inner, folder, match))
    return named, skipped


def left_out(path: str, count: int, reason: str) -> list[Skipped]:
    """One line for `count` images that are left out for the same reason; none when there are none."""
    return [Skipped(path=path, reason=f"{reason} ({count:,} images)")] if count else []


def draw(names: Iterable[str], count: int, *, partition: int, seed: int) -> list[str]:
    """Draw `count` of the names, in random order.

    The order is that of SHA-256 digests and not of a random generator, whose numbers may change with its library:
    the same seed and partition draw the same names with any version, on any machine, for ever.
    """
    return sorted(names, key=lambda name: sha256_of_bytes(f"{seed}/{partition}/{name}".encode()))[:count]


def check_partition(partition: int, known: int | None = None) -> None:
    """Check the number of a partition, counted from 1.

    Args:
        partition: The number.
        known: How many the data set's authors made; None where they are drawn by a seed.

    Raises:
        UsageError: There is no such partition.
    """
    if partition < 1 or (known is not None and partition > known):
        those = f"1 to {known}" if known else "1 or above"
        raise UsageError(f"There is no partition {partition}.", f"Partitions are numbered {those}.")
