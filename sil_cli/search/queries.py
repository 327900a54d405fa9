"""What is searched for: pictures, people in larger pictures, gallery entries, or the mean of several of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.errors import DataError, GalleryError, SilError, UsageError
from sil_cli.files import sha256_of_file
from sil_cli.gallery.ingest.entry_candidates import mean_direction
from sil_cli.gallery.ingest.ingested_image import parse_box
from sil_cli.models.embed import embed_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.data.images import Box
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
    """One person to find: in pictures, each with the box to cut out or None, and as gallery entries.

    More than one picture and entry together are fused: they are searched for by their mean.
    """

    pictures: tuple[ImageFile, ...] = ()
    ids: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """The query in a few words."""
        parts = [str(path) + (f" [{','.join(map(str, box))}]" if box else "") for path, box in self.pictures]
        parts += [f"entry {one}" for one in self.ids]
        return parts[0] if len(parts) == 1 else f"{parts[0]} and {len(parts) - 1} more"


def make_queries(settings: QuerySettings) -> list[Query]:
    """The queries that images, boxes and ids ask for: one each, or a single one where they are fused.

    Raises:
        UsageError: Nothing is named, a box is none, or boxes and images don't pair.
    """
    pictures = _pictures(settings.images, [_box(text) for text in settings.boxes])
    if not pictures and not settings.ids:
        raise UsageError("No picture is named.", "Say `sil query IMAGE`, --id N of a gallery entry, or --batch FOLDER.")
    if settings.fuse:
        return [Query(pictures, settings.ids)]
    return [*(Query((picture,)) for picture in pictures), *(Query((), (one,)) for one in settings.ids)]


def _pictures(images: Sequence[Path], boxes: Sequence[Box]) -> tuple[ImageFile, ...]:
    if not boxes:
        return tuple((image, None) for image in images)
    if not images:
        raise UsageError("A box was named, but no image.", "Say `sil query IMAGE --box LEFT,TOP,WIDTH,HEIGHT`.")
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


def require_ids(queries: Sequence[Query], gallery: Gallery) -> None:
    """Refuse ids that the gallery doesn't have.

    Raises:
        GalleryError: It has no such entry.
    """
    wanted = [one for query in queries for one in query.ids]
    held = gallery.entries(wanted)
    for one in wanted:
        if one not in held:
            raise GalleryError(
                f"The gallery {gallery.name} has no entry {one}.",
                "Take an id from the matches of a query; a replaced image gets a new one.",
            )


def embed_queries(queries: Sequence[Query], gallery: Gallery, engine: Engine | None, batch: int) -> np.ndarray:
    """One embedding for each query, shape (Q, D): stored ones of entries, computed ones of pictures, or their mean.

    Args:
        queries: What is searched for; ids are the gallery's.
        gallery: Knows the embeddings of its entries.
        engine: Computes embeddings; None where no query has a picture.
        batch: Images per forward pass.

    Raises:
        DataError: A picture can't be used.
    """
    files = [picture for query in queries for picture in query.pictures]
    parts = [gallery.vectors([])]
    if files and engine is not None:
        for part in embed_batches(engine, files, batch=batch):
            if part.failed:
                path, reason = part.failed[0]
                raise DataError(f"{path} can't be used as a query: {reason}.", "Give a picture of one person.")
            parts.append(part.embeddings)
    embedded = iter(np.concatenate(parts))
    return np.stack(
        [
            mean_direction(np.stack([*(next(embedded) for _ in query.pictures), *gallery.vectors(query.ids)]))
            for query in queries
        ]
    )


def ids_to_exclude(query: Query, gallery: Gallery, *, exclude_self: bool) -> frozenset[int]:
    """The entries that a query mustn't find: those that it is, and where wished all that were cut from the same files.

    Nobody stands in a picture twice, so other boxes of it are left out as well. Entries made of several images have no
    file of their own, and stay.
    """
    excluded = frozenset(query.ids)
    if exclude_self:
        contents = {sha256_of_file(path) for path, _ in query.pictures}
        contents |= {entry.content_hash for entry in gallery.entries(query.ids).values()}
        excluded = excluded.union(*map(gallery.ids_of_content, contents))
    return excluded


def whom_it_shows(query: Query, gallery: Gallery) -> KnownPerson:
    """The person of a query, where its pictures and entries are known and agree."""
    people = {_in_dataset(path) for path, box in query.pictures if box is None}
    people |= {KnownPerson() for _, box in query.pictures if box is not None}
    entries = gallery.entries(query.ids).values()
    people |= {KnownPerson(entry.identity, entry.camera, entry.domain) for entry in entries}
    if len(people) == 1:
        return people.pop()
    names = {(person.identity, person.domain) for person in people}
    identity, domain = names.pop() if len(names) == 1 else (None, None)
    return KnownPerson(identity=identity, domain=domain)


def _in_dataset(image: Path) -> KnownPerson:
    """The person in a picture that belongs to a prepared data set; unknown for any other picture."""
    whole = image.resolve()
    for folder in list(whole.parents)[:PARENTS_SEARCHED]:
        if not is_dataset(folder):
            continue
        try:
            dataset = load_dataset(folder)
        except SilError:
            return KnownPerson()
        for record in dataset.records:
            if dataset.image_path(record).resolve() == whole:
                return KnownPerson(identity=record.identity, camera=record.camera, domain=dataset.name)
    return KnownPerson()
