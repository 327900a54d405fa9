"""What the readers share: checking ROOT, naming a domain, and splitting what comes without splits."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.data.manifest import ImageRecord, Skipped, Split
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError, UsageError
from sil_cli.files import one_line, sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

SplitMode = Literal["train", "test", "half"]
"""What to do with images of no known split: `train`, all are training images; `test`, all belong to the test, as
query and gallery; `half`, half of the identities (drawn by the seed) are trained on and the others tested."""

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")

_SPLIT_NAMES: dict[str, Split | Literal["test"]] = {
    "train": "train",
    "training": "train",
    "bounding_box_train": "train",
    "query": "query",
    "probe": "query",
    "gallery": "gallery",
    "bounding_box_test": "gallery",
    "test": "test",
}


@dataclass(frozen=True)
class Sighting:
    """One image as a generic reader finds it; the fields are those of `ImageRecord`.

    Attributes:
        split: None where unknown; `test` where the sides of the test are yet to be told apart.
    """

    path: str
    identity: str
    camera: str | None = None
    split: Split | Literal["test"] | None = None
    time: datetime | None = None
    frame: int | None = None


def check_root(root: Path) -> None:
    """Check that ROOT is a folder.

    Raises:
        DataError: It is missing, locked, a file, or an archive that was not unpacked.
    """
    try:
        if root.is_dir():
            return
        there = root.exists()
    except OSError as error:
        raise DataError(f"{root} can't be opened: {one_line(error)}.", "Check the path and its permissions.") from error
    if not there:
        raise DataError(f"There is no folder {root}.", "Check the path.")
    if root.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise DataError(f"{root} is an archive.", "Unpack it and give the folder that comes out of it.")
    raise DataError(f"{root} is a file, not a folder.", "Give the folder that the images lie in.")


def domain_name(root: Path, name: str | None) -> str:
    """The domain's name: `name`, or a slug of the folder's name ("My Cameras" gives "my-cameras")."""
    return name or slug(root.resolve().name) or "dataset"


def slug(text: str) -> str:
    """`text` as a name that any file system takes: lower case, letters, digits, dots and dashes."""
    return re.sub(r"[^\w.]+", "-", unicodedata.normalize("NFKC", text).lower()).strip("-._")


def split_of(text: str) -> Split | Literal["test"] | None:
    """The split that a folder's name or a table's cell stands for; None when it stands for none."""
    return _SPLIT_NAMES.get(text.strip().lower())


def split_names() -> str:
    """The split names that are understood, for messages."""
    return ", ".join(_SPLIT_NAMES)


def to_records(sightings: Sequence[Sighting], *, domain: str, split: SplitMode, seed: int) -> list[ImageRecord]:
    """Give every sighting a split and make it a record; the order stays.

    Images of the test are told apart by `query_positions`.

    Args:
        sightings: All images, in a fixed order.
        domain: The domain's name.
        split: What to do with images of no known split.
        seed: Draws the identities for `half`; no other mode is random.
    """
    tested: frozenset[str] = frozenset()
    if split == "half":
        unknown = sorted({sighting.identity for sighting in sightings if sighting.split is None})
        drawn = np.random.default_rng(seed).permutation(len(unknown))[: len(unknown) // 2]
        tested = frozenset(unknown[index] for index in drawn)
    wanted: list[Split | Literal["test"]] = []
    for sighting in sightings:
        if sighting.split is not None:
            wanted.append(sighting.split)
        else:
            wanted.append("test" if split == "test" or sighting.identity in tested else "train")
    test = [position for position, target in enumerate(wanted) if target == "test"]
    queries = query_positions((position, sightings[position]) for position in test)
    records: list[ImageRecord] = []
    for position, (sighting, target) in enumerate(zip(sightings, wanted, strict=True)):
        side: Split = target if target != "test" else "query" if position in queries else "gallery"
        records.append(
            ImageRecord(
                path=sighting.path,
                identity=sighting.identity,
                camera=sighting.camera,
                split=side,
                domain=domain,
                time=sighting.time,
                frame=sighting.frame,
            )
        )
    return records


def query_positions(sightings: Iterable[tuple[int, Sighting]]) -> set[int]:
    """Choose the queries among the images of a test.

    The first image of an identity in each camera is a query and the others are gallery images. So that a query
    finds somebody, a camera that saw an identity once keeps that image for the gallery; an identity of which
    every camera has one image gives its first as the query. An identity with a single image is never a query.

    Args:
        sightings: Pairs of a position and what was seen there, in order.

    Returns:
        The positions of the queries.
    """
    by_identity: dict[str, dict[str | None, list[int]]] = {}
    for position, sighting in sightings:
        by_identity.setdefault(sighting.identity, {}).setdefault(sighting.camera, []).append(position)
    queries: set[int] = set()
    for cameras in by_identity.values():
        firsts = [positions[0] for positions in cameras.values() if len(positions) > 1]
        if not firsts and len(cameras) > 1:
            firsts = [min(positions[0] for positions in cameras.values())]
        queries.update(firsts)
    return queries


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

    def digest(name: str) -> str:
        return sha256_of_bytes(f"{seed}/{partition}/{name}".encode())

    return sorted(names, key=digest)[:count]


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
