"""What is searched for: images, people in larger images, gallery entries, or the mean of several of these."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import MAX_PIXELS, ImageError, load_image, parse_box
from sil_cli.data.manifest import find_records, is_dataset
from sil_cli.errors import DataError, GalleryError, UsageError
from sil_cli.files import sha256_of_file
from sil_cli.models.embed import embed
from sil_cli.similarity.distance import mean_direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

    from sil_cli.data.images import Box
    from sil_cli.data.manifest import ImageRecord
    from sil_cli.gallery.entry import GalleryEntry
    from sil_cli.gallery.interface import Gallery
    from sil_cli.models.embed import ImageFile
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.settings import QuerySettings

PARENTS_SEARCHED = 4
"""How far above an image a prepared data set is looked for that may know whom it shows."""

SHOWN_BOXES = 5
"""Of a larger image, in the note that says whom a data set knows in it."""


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


def complete_queries(
    queries: Sequence[Query], gallery: Gallery, reporter: Reporter, *, max_pixels: int = MAX_PIXELS
) -> list[Query]:
    """The queries with the gallery's entries that they name, and with whom they show, as far as that is known.

    Args:
        queries: What is searched for.
        gallery: Knows its entries.
        reporter: Is told of images in which several people are known.
        max_pixels: The most pixels of an image that is read.

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
    known = _records_of(path for query in named for path, _ in query.images)
    return [replace(query, person=_whom_it_shows(query, known, reporter, max_pixels)) for query in named]


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
    rows: Iterator[np.ndarray] = iter(())
    if files and engine is not None:
        try:
            rows = iter(embed(engine, files, batch=batch))
        except ImageError as error:
            raise DataError(
                f"{error.path} can't be used as a query: {error.reason}.", "Name an image of one person."
            ) from error
    stored = [gallery.vectors(query.ids) if query.ids else () for query in queries]
    return np.stack(
        [
            mean_direction(np.stack([*(next(rows) for _ in query.images), *entries]))
            for query, entries in zip(queries, stored, strict=True)
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


def _whom_it_shows(
    query: Query, known: Mapping[Path, Sequence[ImageRecord]], reporter: Reporter, max_pixels: int
) -> KnownPerson:
    """The person of a query, where its images and entries are known and agree."""
    people = {_in_image(path, box, known.get(path, ()), reporter, max_pixels) for path, box in query.images}
    people |= {KnownPerson(entry.identity, entry.camera, entry.domain) for entry in query.entries}
    return _common(people)


def _common(people: Set[KnownPerson]) -> KnownPerson:
    """What is true of all of these people."""
    if len(people) == 1:
        return next(iter(people))
    names = {(person.identity, person.domain) for person in people}
    identity, domain = names.pop() if len(names) == 1 else (None, None)
    return KnownPerson(identity=identity, domain=domain)


def _records_of(images: Iterable[Path]) -> dict[Path, list[ImageRecord]]:
    """What the prepared data sets around some images say of them, each read once."""
    members: dict[Path, list[Path]] = {}
    for image in dict.fromkeys(images):
        for whole in dict.fromkeys(map(Path, (os.path.normpath(image.absolute()), os.path.realpath(image)))):
            folder = next((folder for folder in list(whole.parents)[:PARENTS_SEARCHED] if is_dataset(folder)), None)
            if folder is not None:
                members.setdefault(folder, []).append(image)
    known: dict[Path, list[ImageRecord]] = {}
    for folder, some in members.items():
        for image, records in find_records(folder, some).items():
            known.setdefault(image, []).extend(records)
    return known


def _in_image(
    path: Path, box: Box | None, records: Sequence[ImageRecord], reporter: Reporter, max_pixels: int
) -> KnownPerson:
    """Whom a box in an image shows, or all of it for None, by a data set's records of that image.

    A box is that of a record if their edges lie a pixel apart at most, as far as they are in the image: coordinates may
    have been rounded otherwise. The whole of a larger image, and any other box in it, may show somebody else.
    """
    same = [record for record in records if record.box == box]
    if records and not same:
        with contextlib.suppress(ImageError):  # it is told when the image is embedded
            size = load_image(path, max_pixels=max_pixels).size
            same = [record for record in records if _are_close(_edges(record.box, size), _edges(box, size))]
            if box is None and not same:
                _say_which_boxes(path, records, reporter)
    return _common({_person_of(record) for record in same}) if same else KnownPerson()


def _person_of(record: ImageRecord) -> KnownPerson:
    """Whom a record shows; the label of junk and distractors may stand for many people."""
    somebody = not record.is_named
    return KnownPerson(None if somebody else record.identity, record.camera, record.domain)


def _edges(box: Box | None, size: tuple[int, int]) -> list[int]:
    """Left, right, top and bottom of a box, as far as they are in an image of this width and height."""
    left, top, width, height = box or (0, 0, *size)
    ends = ((left, size[0]), (left + width, size[0]), (top, size[1]), (top + height, size[1]))
    return [min(max(edge, 0), most) for edge, most in ends]


def _are_close(edges: Sequence[int], others: Sequence[int]) -> bool:
    return all(abs(edge - other) <= 1 for edge, other in zip(edges, others, strict=True))


def _say_which_boxes(path: Path, records: Sequence[ImageRecord], reporter: Reporter) -> None:
    boxes = [",".join(map(str, record.box)) for record in records if record.box]
    more = f" and {len(boxes) - SHOWN_BOXES} more" if len(boxes) > SHOWN_BOXES else ""
    reporter.note(
        f"{path} is a larger image, and {records[0].domain} knows people in boxes of it: "
        f"{'; '.join(boxes[:SHOWN_BOXES])}{more}. All of it shows nobody in particular, so no match is marked right or "
        f"wrong; for one of them, add --box {boxes[0]}."
    )
