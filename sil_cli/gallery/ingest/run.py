"""One run of indexing: takes images, embeds what the gallery lacks, and looks for files that are missing."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sil_cli.data.images import DRAWN, ImageError, Shot, is_drawn, load_image, quiet_decoders, read_shot
from sil_cli.data.manifest import Skipped
from sil_cli.errors import one_line
from sil_cli.files import sha256_of_file
from sil_cli.gallery.entry import TRACKLET, TRACKLET_IMAGES
from sil_cli.gallery.ingest.entry_candidates import EntryCandidate, gather_embeddings, make_candidates
from sil_cli.gallery.ingest.source_paths import is_missing
from sil_cli.gallery.results import IndexCounts
from sil_cli.models.embed import embed_batches
from sil_cli.runtime import cpu_count, map_in_order

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from sil_cli.gallery.entry import EntryKey, GalleryEntry
    from sil_cli.gallery.ingest.source_paths import SourcePaths
    from sil_cli.gallery.ingest.sources import SourceReader
    from sil_cli.gallery.interface import GalleryWriter
    from sil_cli.models.embed import EmbeddedBatch, ImageFile
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter, Task

COMMIT_IMAGES = 1024
"""Embeddings gathered before they are made durable together; at most this many are embedded again after a kill."""

ASSUMED = "changed images keep the identity or time that this run doesn't say"
_MERGE_EVERY = 64
"""Commits of a stream after which small files of vectors are merged."""


class Embed(Protocol):
    """How image files become embeddings."""

    def __call__(
        self, engine: Engine, files: Sequence[ImageFile], /, *, batch: int
    ) -> Generator[EmbeddedBatch, None, None]:
        """As `embed_batches` does it."""


class IndexRun:
    """One run of indexing: what it did so far.

    Args:
        writer: Of the gallery.
        reader: Reads times, and gathers warnings.
        paths: Names images in the gallery.
        engine: Computes embeddings.
        embed: How, by this process or by several.

    Attributes:
        failed: Images that could not be used.
        counts: What became of images and entries.
        missing: Ids and paths of entries whose files are not there.
        twice: By source whose folder is not there, the paths of entries that this run stored again from elsewhere.
    """

    def __init__(
        self,
        writer: GalleryWriter,
        reader: SourceReader,
        paths: SourcePaths,
        engine: Engine,
        embed: Embed = embed_batches,
    ) -> None:
        self.failed: list[Skipped] = []
        self.counts = IndexCounts()
        self.missing: list[tuple[int, str]] = []
        self.twice: dict[str, list[str]] = {}
        self._writer, self._reader, self._paths = writer, reader, paths
        self._engine, self._embed_files = engine, embed
        self._tracklets = reader.settings.tracklets != "off"
        self._keys: set[EntryKey] = set()
        self._parts: set[EntryKey] = set()
        self._tracklets_seen: set[tuple[str, str | None, str | None, str]] = set()
        self._names: dict[Path, str] = {}
        self._commits = 0

    @property
    def taken(self) -> int:
        """Entries that this run found or made."""
        counts = self.counts
        return counts.added + counts.replaced + counts.unchanged + counts.described

    def take(self, images: Sequence[GalleryEntry], reporter: Reporter) -> None:
        """Bring the gallery up to date with these images, wherever they come from."""
        placed = self._paths.place(images)
        self._names = {}
        for named, image in zip(images, placed, strict=True):
            self._names.setdefault(image.file(self._paths.gallery), named.path)
        wanted: dict[EntryKey, GalleryEntry] = {}
        for image in placed:  # what a later naming knows more is added to the first one
            wanted[image.key] = wanted[image.key].filled_from(image) if image.key in wanted else image
        with reporter.task("Looking for what is new", len(wanted), "images") as task:
            read = self._read_files(list(wanted.values()), task)
        candidates = make_candidates(read, tracklets=self._tracklets)
        for candidate in candidates:
            self._remember(candidate)
        lacking, changed = self._compare(candidates)
        self._note_twice([candidate.entry for candidate in lacking if candidate.entry.key not in changed])
        self._embed(lacking, changed, reporter)

    def sweep(self, folders: Sequence[Path], unlisted: Sequence[Path] = ()) -> None:
        """Find entries that became parts of tracklets, which are removed, and those whose files are missing.

        Args:
            folders: Resolved; all images of these have been taken. Folders to which links in them lead are looked at,
                too.
            unlisted: Folders in them of which nothing is known; what the gallery has of these stays as it is.
        """
        closed = [os.path.realpath(one) for one in unlisted]
        absorbed: set[int] = set()
        missing: set[tuple[int, str]] = set()
        linked = {there for folder in folders for there in self._paths.linked.get(folder, ())}
        for folder in [*folders, *sorted(linked.difference(folders))]:
            for source in self._paths.sources_around(folder):
                root = self._paths.root_of(source)
                for identifier, entry in self._writer.entries_of(source):
                    file = root / entry.path
                    if entry.key in self._keys or not file.is_relative_to(folder):
                        continue
                    if any(file.is_relative_to(one) for one in closed):
                        continue
                    if self._was_absorbed(entry):
                        absorbed.add(identifier)
                    elif is_missing(file):
                        missing.add((identifier, entry.path))
        self.missing = sorted(missing)
        if absorbed:
            self._writer.remove(sorted(absorbed), "absorbed by a tracklet")
        self.counts.absorbed = len(absorbed)

    def prune(self) -> int:
        """Remove the entries whose files are missing; returns how many."""
        if self.missing:
            self._writer.remove([identifier for identifier, _ in self.missing], "file gone")
        return len(self.missing)

    def _read_files(self, images: Sequence[GalleryEntry], task: Task) -> list[GalleryEntry]:
        """Read every file once: its hash, and its EXIF tags where they are asked for.

        Returns:
            The images that could be read, complete.
        """
        read: list[GalleryEntry] = []
        remaining = iter(images)
        with quiet_decoders(), closing(map_in_order(self._read_file, images, workers=cpu_count())) as chunks:
            for chunk in chunks:
                for content in chunk:
                    image = next(remaining)
                    if isinstance(content, str):
                        self._fail(image.file(self._paths.gallery), content)
                        continue
                    digest, shot = content
                    if image.time is None and shot.time is not None:
                        image = replace(image, time=self._reader.read_time(shot.time, image.path, exif=True))
                    if image.camera is None and shot.camera is not None:
                        image = replace(image, camera=shot.camera)
                    read.append(replace(image, content_hash=digest))
                task.advance(len(chunk))
        return read

    def _read_file(self, image: GalleryEntry) -> tuple[str, Shot] | str:
        """A file's hash and what its tags say, or why it is none of a crop."""
        file = image.file(self._paths.gallery)
        try:
            if is_drawn(file):
                return DRAWN
            digest = sha256_of_file(file)
            wanted = self._reader.settings.exif and (image.time is None or image.camera is None)
            return digest, read_shot(file, max_pixels=self._engine.max_pixels) if wanted else Shot()
        except OSError as error:
            return one_line(error)
        except ImageError:  # what is wrong with it is said when it is decoded
            return digest, Shot()

    def _remember(self, candidate: EntryCandidate) -> None:
        self._keys.add(candidate.entry.key)
        if self._tracklets and TRACKLET in candidate.entry.metadata:
            self._parts.update(candidate.members or [candidate.entry.key])
            self._tracklets_seen.add(_tracklet_name(candidate.entry))

    def _was_absorbed(self, entry: GalleryEntry) -> bool:
        if entry.key in self._parts:
            return True
        return TRACKLET_IMAGES in entry.metadata and _tracklet_name(entry) in self._tracklets_seen

    def _compare(self, candidates: Sequence[EntryCandidate]) -> tuple[list[EntryCandidate], set[EntryKey]]:
        """Hold candidates against the gallery; those that it holds already are described again where more is known.

        Returns:
            Those that are to be embedded, and the keys of those of them that the gallery holds with other content.
        """
        lacking: list[EntryCandidate] = []
        changed: set[EntryKey] = set()
        described: dict[int, GalleryEntry] = {}
        incomplete: list[EntryCandidate] = []
        existing = self._writer.existing([candidate.entry.key for candidate in candidates])
        for candidate in candidates:
            found = candidate.entry
            if found.key not in existing:
                lacking.append(candidate)
                continue
            identifier, entry = existing[found.key]
            if entry.content_hash != found.content_hash:
                lacking.append(self._replacing(candidate, entry))
                changed.add(found.key)
                continue
            if _images(entry) != _images(found):  # some could not be read when it was embedded
                incomplete.append(candidate)
            known = found.filled_from(entry)
            if _images(entry) is not None:  # those do not count
                known = replace(known, metadata={**known.metadata, TRACKLET_IMAGES: entry.metadata[TRACKLET_IMAGES]})
            if known == entry:
                self.counts.unchanged += 1
            else:
                described[identifier] = known
        if described:
            self._writer.describe(described)
        self.counts.described += len(described)
        for path, reason in _unreadable(incomplete, self._paths.gallery, self._engine.max_pixels):
            self._fail(path, reason)
        return lacking, changed

    def _replacing(self, candidate: EntryCandidate, existing: GalleryEntry) -> EntryCandidate:
        """A candidate of other content, as the same image or tracklet: an entry is known again by its name alone.

        What is known of the entry and not said by this run stays.
        """
        found = candidate.entry
        if (_images(existing) is None) != (_images(found) is None):
            return candidate
        known = found.filled_from(existing)
        if (known.identity, known.time) != (found.identity, found.time):
            self._reader.warnings.add(ASSUMED, found.path)
        return replace(candidate, entry=known)

    def _note_twice(self, new: Sequence[GalleryEntry]) -> None:
        """Find what the gallery has of a source that is missing: sources are relative to a gallery, which may move."""
        for source in self._paths.missing_sources() if new else []:
            existing = self._writer.existing([(source, entry.path, entry.box) for entry in new])
            found = [entry.path for entry in new if _is_same(existing.get((source, entry.path, entry.box)), entry)]
            if found:
                self.twice.setdefault(source, []).extend(found)

    def _embed(self, candidates: Sequence[EntryCandidate], changed: set[EntryKey], reporter: Reporter) -> None:
        """Embed candidates and store them, some at a time."""
        files = [file for candidate in candidates for file in candidate.files(self._paths.gallery)]
        if not files:
            return
        waiting: list[tuple[EntryCandidate, np.ndarray]] = []
        batch_size = self._reader.settings.batch
        with (
            reporter.task("Indexing", len(files), "images") as task,
            closing(self._embed_files(self._engine, files, batch=batch_size)) as batches,
        ):
            for done, batch in gather_embeddings(candidates, batches):
                waiting += done
                for path, reason in batch.failed:
                    self._fail(path, reason)
                self.counts.embedded += len(batch.positions)
                if len(waiting) >= COMMIT_IMAGES:
                    self._commit(waiting, changed)
                task.advance(len(batch.positions) + len(batch.failed))
        self._commit(waiting, changed)

    def _commit(self, waiting: list[tuple[EntryCandidate, np.ndarray]], changed: set[EntryKey]) -> None:
        if not waiting:
            return
        self._writer.add(
            [candidate.entry for candidate, _ in waiting],
            np.stack([embedding for _, embedding in waiting]),
            members=[candidate.members for candidate, _ in waiting],
        )
        again = sum(candidate.entry.key in changed for candidate, _ in waiting)
        self.counts.replaced += again
        self.counts.added += len(waiting) - again
        waiting.clear()
        self._commits += 1
        if self._commits % _MERGE_EVERY == 0:
            self._writer.finish()

    def _fail(self, path: Path, reason: str) -> None:
        """Note a file that can't be used, as its source names it."""
        self.failed.append(Skipped(path=self._names.get(path, str(path)), reason=reason))


def _unreadable(candidates: Iterable[EntryCandidate], gallery: Path, max_pixels: int) -> Iterator[tuple[Path, str]]:
    """The images of candidates that can't be read, each with the reason."""
    with quiet_decoders():
        for candidate in candidates:
            for path, box in candidate.files(gallery):
                try:
                    load_image(path, max_pixels=max_pixels, box=box)
                except ImageError as error:
                    yield path, error.reason


def _images(entry: GalleryEntry) -> str | None:
    """The number of images of a tracklet, as its entry says it; None of a single image."""
    return entry.metadata.get(TRACKLET_IMAGES)


def _is_same(existing: tuple[int, GalleryEntry] | None, entry: GalleryEntry) -> bool:
    """Whether an entry of another source is made of the same content; a tracklet's hash covers its source, too."""
    return existing is not None and (
        existing[1].content_hash == entry.content_hash or TRACKLET_IMAGES in entry.metadata
    )


def _tracklet_name(entry: GalleryEntry) -> tuple[str, str | None, str | None, str]:
    """What the images of one tracklet share."""
    return entry.source, entry.identity, entry.camera, entry.metadata[TRACKLET]
