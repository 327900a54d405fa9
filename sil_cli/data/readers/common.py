"""What the readers share: checking ROOT, naming a domain, and splitting what comes without splits."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.data.manifest import ImageRecord, Split
from sil_cli.errors import DataError

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
        DataError: It is missing, a file, or an archive that was not unpacked.
    """
    if root.is_dir():
        return
    if not root.exists():
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
