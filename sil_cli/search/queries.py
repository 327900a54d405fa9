"""What is searched for: images, people in larger images, gallery entries, or the mean of several of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import ImageError, parse_box
from sil_cli.data.manifest import find_record, is_dataset
from sil_cli.errors import DataError, GalleryError, UsageError
from sil_cli.files import sha256_of_file
from sil_cli.models.embed import embed
from sil_cli.similarity.distance import mean_direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.data.images import Box
    from sil_cli.gallery.entry import GalleryEntry
    from sil_cli.gallery.interface import Gallery
    from sil_cli.models.embed import ImageFile
    from sil_cli.models.engines.engine import Engine
    from sil_cli.settings import QuerySettings

PARENTS_SEARCHED = 4
"""How far above an image a prepared data set is looked for that may know whom it shows."""


@dataclass(frozen=True)
class KnownPerson:
    """Whom a query shows, where a prepared data set or the gallery knows it; all None where none does."""

    identity: str | None = None
    camera: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Query:
    """One person to find; several images and entries are fused: they are searched for by their mean.

    Attributes:
        images: Files, each with the box to cut out or None.
        ids: Of gallery entries.
        entries: These entries, once the gallery was asked (see `complete_queries`).
        person: Whom it shows, as far as that is known.
    """

    images: tuple[ImageFile, ...] = ()
    ids: tuple[int, ...] = ()
    entries: tuple[GalleryEntry, ...] = ()
    person: KnownPerson = KnownPerson()

    @property
    def label(self) -> str:
        """The query in a few words."""
        parts = [str(path) + (f" [{','.join(map(str, box))}]" if box else "") for path, box in self.images]
        parts += [f"entry {one}" for one in self.ids]
        return parts[0] if len(parts) == 1 else f"{parts[0]} and {len(parts) - 1} more"


def make_queries(settings: QuerySettings) -> list[Query]:
    """The queries that images, boxes and ids ask for: one each, or a single one where they are fused.

    Raises:
        UsageError: Nothing is named, a box is not valid, or boxes and images don't pair.
    """
    images = _with_boxes(settings.images, [_box(text) for text in settings.boxes])
    if not images and not settings.ids:
        raise UsageError("No image is named.", "Run `sil query IMAGE`, or use --id N or --batch FOLDER.")
    if settings.fuse:
        return [Query(images, settings.ids)]
    return [*(Query((image,)) for image in images), *(Query((), (one,)) for one in settings.ids)]


def _with_boxes(images: Sequence[Path], boxes: Sequence[Box]) -> tuple[ImageFile, ...]:
    if not boxes:
        return tuple((image, None) for image in images)
    if not images:
        raise UsageError(
            "A box was named, but no image.", "Name the image too: `sil query IMAGE --box LEFT,TOP,WIDTH,HEIGHT`."
        )
    if len(images) == 1:
        return tuple((images[0], box) for box in boxes)
    if len(images) != len(boxes):
        raise UsageError(
            f"{len(boxes)} boxes don't pair with {len(images)} images.",
            "Give one box for each image, in the same order, or one image alone with all its boxes.",
        )
    return tuple(zip(images, boxes, strict=True))


def _box(text: str) -> Box:
    try:
        return parse_box(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--box {text} is not LEFT,TOP,WIDTH,HEIGHT in pixels.", "For example: 120,40,64,128."
        ) from error


def complete_queries(queries: Sequence[Query], gallery: Gallery) -> list[Query]:
    """The queries with the gallery's entries that they name, and with whom they show, as far as that is known.

    Raises:
        GalleryError: The gallery has no such entry.
    """
    existing = gallery.entries([one for query in queries for one in query.ids])
    missing = next((one for query in queries for one in query.ids if one not in existing), None)
    if missing is not None:
        raise GalleryError(
            f"The gallery {gallery.name} has no entry {missing}.",
            "Use an id from the matches of a query; a replaced image gets a new one.",
        )
    named = [replace(query, entries=tuple(existing[one] for one in query.ids)) for query in queries]
    return [replace(query, person=_whom_it_shows(query)) for query in named]


def embed_queries(queries: Sequence[Query], gallery: Gallery, engine: Engine | None, batch: int) -> np.ndarray:
    """One embedding for each query, shape (Q, D): stored ones of entries, computed ones of images, or their mean.

    Args:
        queries: What is searched for; ids are the gallery's.
        gallery: Knows the embeddings of its entries.
        engine: Computes embeddings; None where no query has an image.
        batch: Images per forward pass.

    Raises:
        DataError: An image can't be used.
    """
    files = [image for query in queries for image in query.images]
    computed = gallery.vectors([])
    if files and engine is not None:
        try:
            computed = embed(engine, files, batch=batch)
        except ImageError as error:
            raise DataError(
                f"{error.path} can't be used as a query: {error.reason}.", "Name an image of one person."
            ) from error
    rows = iter(computed)
    return np.stack(
        [
            mean_direction(np.stack([*(next(rows) for _ in query.images), *gallery.vectors(query.ids)]))
            for query in queries
        ]
    )


def ids_to_exclude(query: Query, gallery: Gallery, *, exclude_self: bool) -> frozenset[int]:
    """The entries that a query mustn't find: those that it is, and if asked for, all that were cut from the same files.

    Nobody stands in an image twice, so other boxes of it are left out as well. Entries made of several images have no
    file of their own, and stay.
    """
    excluded = frozenset(query.ids)
    if exclude_self:
        contents = {sha256_of_file(path) for path, _ in query.images}
        contents |= {entry.content_hash for entry in query.entries}
        excluded = excluded.union(*map(gallery.ids_of_content, contents))
    return excluded


def _whom_it_shows(query: Query) -> KnownPerson:
    """The person of a query, where its images and entries are known and agree."""
    people = {_in_dataset(path) if box is None else KnownPerson() for path, box in query.images}
    people |= {KnownPerson(entry.identity, entry.camera, entry.domain) for entry in query.entries}
    if len(people) == 1:
        return people.pop()
    names = {(person.identity, person.domain) for person in people}
    identity, domain = names.pop() if len(names) == 1 else (None, None)
    return KnownPerson(identity=identity, domain=domain)


def _in_dataset(image: Path) -> KnownPerson:
    """The person in an image that belongs to a prepared data set; unknown for any other image."""
    whole = image.resolve()
    folder = next((folder for folder in list(whole.parents)[:PARENTS_SEARCHED] if is_dataset(folder)), None)
    record = find_record(folder, whole) if folder is not None else None
    return KnownPerson() if record is None else KnownPerson(record.identity, record.camera, record.domain)
