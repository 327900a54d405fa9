"""What a gallery lacks: by content hash, and by what is known of each image."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from sil_cli.data.images import ImageError, Shot, load_image, quiet_decoders, read_shot
from sil_cli.data.parallel import map_in_order
from sil_cli.files import one_line, sha256_of_file
from sil_cli.gallery.entry import TRACKLET_IMAGES
from sil_cli.runtime import cpu_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from sil_cli.data.images import Box
    from sil_cli.gallery.entry import GalleryEntry
    from sil_cli.gallery.ingest.entry_candidates import Subject
    from sil_cli.gallery.ingest.ingested_image import SeenImage
    from sil_cli.gallery.ingest.sources import SourceReader
    from sil_cli.gallery.interface import GalleryWriter
    from sil_cli.runtime import Task

Hashes = dict[tuple[str, "Box | None"], str]


def merged(images: Iterable[SeenImage]) -> list[SeenImage]:
    """The images without repetition: what a later naming knows more is added to the first one."""
    found: dict[tuple[str, Box | None], SeenImage] = {}
    for image in images:
        key = (str(image.file), image.box)
        found[key] = found[key].filled_from(image) if key in found else image
    return list(found.values())


def examine(
    images: Sequence[SeenImage], reader: SourceReader, task: Task
) -> tuple[list[SeenImage], Hashes, list[tuple[SeenImage, str]]]:
    """Read every file once: its hash, and its EXIF tags where they are asked for.

    Returns:
        The images with what their tags say, the hashes of those that could be read, and the others with the reason.
    """
    tags_wanted = reader.options.exif

    def look(image: SeenImage) -> tuple[str, Shot] | OSError:
        try:
            digest = sha256_of_file(image.file)
        except OSError as error:
            return error
        if not tags_wanted or (image.time is not None and image.camera is not None):
            return digest, Shot()
        try:
            return digest, read_shot(image.file)
        except ImageError:  # what is wrong with it is said when it is decoded
            return digest, Shot()

    complete: list[SeenImage] = []
    hashes: Hashes = {}
    failed: list[tuple[SeenImage, str]] = []
    remaining = iter(images)
    with quiet_decoders(), closing(map_in_order(look, images, workers=cpu_count())) as chunks:
        for chunk in chunks:
            for looked in chunk:
                image = next(remaining)
                if isinstance(looked, OSError):
                    failed.append((image, one_line(looked)))
                    continue
                digest, shot = looked
                hashes[str(image.file), image.box] = digest
                if image.time is None and shot.time is not None:
                    image = replace(image, time=reader.read_time(shot.time, image.path))
                if image.camera is None and shot.camera is not None:
                    image = replace(image, camera=shot.camera)
                complete.append(image)
            task.advance(len(chunk))
    return complete, hashes, failed


def unreadable_images(subjects: Iterable[Subject]) -> Iterator[tuple[Path, str]]:
    """The images of these subjects that can't be read, each with the reason."""
    with quiet_decoders():
        for subject in subjects:
            for path, box in subject.files:
                try:
                    load_image(path, box=box)
                except ImageError as error:
                    yield path, error.reason


class Comparison:
    """How subjects stand to what a gallery holds.

    Attributes:
        missing: Those to embed: not held, or held with other content.
        replaced: Of these the entries that the gallery holds with other content.
        unchanged: The number held as they are.
        described: Entries, by id, of which more or something else is known now; their vectors stay.
        assumed: Paths of replaced entries that keep an identity or a time which the run doesn't say.
        partial: Tracklets held as they are, some of whose images could not be read when they were embedded.
    """

    def __init__(self, subjects: Sequence[Subject], writer: GalleryWriter) -> None:
        self.missing: list[Subject] = []
        self.replaced: set[tuple[str, str, Box | None]] = set()
        self.unchanged = 0
        self.described: dict[int, GalleryEntry] = {}
        self.assumed: list[str] = []
        self.partial: list[Subject] = []
        held = writer.existing([subject.entry.key for subject in subjects])
        for subject in subjects:
            key = subject.entry.key
            if key not in held:
                self.missing.append(subject)
                continue
            identifier, entry = held[key]
            if entry.content_hash != subject.entry.content_hash:
                self._replace(subject, entry)
                continue
            told = _told_anew(entry, subject.entry)
            if _images(entry) != _images(subject.entry):
                self.partial.append(subject)
            if told == entry:
                self.unchanged += 1
            else:
                self.described[identifier] = told

    def _replace(self, subject: Subject, held: GalleryEntry) -> None:
        """Embed a subject anew, as the same image or tracklet: its name is all that an entry can be known again by."""
        found = subject.entry
        if (_images(held) is None) == (_images(found) is None):
            subject = replace(subject, entry=_filled(found, held))
            if (subject.entry.identity, subject.entry.time) != (found.identity, found.time):
                self.assumed.append(found.path)
        self.missing.append(subject)
        self.replaced.add(found.key)


def _images(entry: GalleryEntry) -> str | None:
    """The number of images of a tracklet, as its entry says it; None of a single image."""
    return entry.metadata.get(TRACKLET_IMAGES)


def _told_anew(held: GalleryEntry, found: GalleryEntry) -> GalleryEntry:
    """The held entry with what is known now."""
    told = _filled(found, held)
    images = _images(held)  # images that could not be read do not count
    return told if images is None else replace(told, metadata={**told.metadata, TRACKLET_IMAGES: images})


def _filled(found: GalleryEntry, held: GalleryEntry) -> GalleryEntry:
    """What is found, with what was known before; what nobody says any more stays as it was."""
    return replace(
        found,
        identity=found.identity if found.identity is not None else held.identity,
        camera=found.camera if found.camera is not None else held.camera,
        time=found.time if found.time is not None else held.time,
        domain=found.domain if found.domain is not None else held.domain,
        metadata={**held.metadata, **found.metadata},
    )
