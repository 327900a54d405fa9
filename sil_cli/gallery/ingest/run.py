"""One run of indexing: takes images, embeds what the gallery lacks, and looks for what has gone."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sil_cli.gallery.entry import TRACKLET, TRACKLET_IMAGES
from sil_cli.gallery.ingest.comparing import Comparison, examine, merged, unreadable_images
from sil_cli.gallery.ingest.entry_candidates import Subject, gather_embeddings, make_subjects
from sil_cli.gallery.ingest.source_paths import settled
from sil_cli.gallery.results import FailedImage
from sil_cli.models.embed import embed_batches

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from sil_cli.data.images import Box
    from sil_cli.gallery.entry import GalleryEntry
    from sil_cli.gallery.ingest.ingested_image import SeenImage
    from sil_cli.gallery.ingest.source_paths import Placing
    from sil_cli.gallery.ingest.sources import SourceReader
    from sil_cli.gallery.interface import GalleryWriter
    from sil_cli.models.embed import EmbeddedBatch, ImageFile
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter

COMMIT_IMAGES = 1024
"""Embeddings gathered before they are made durable together; at most this many are embedded again after a kill."""

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

    Attributes:
        failed: Images that could not be used.
        added: Entries that are new.
        replaced: Entries whose files changed.
        unchanged: Entries that stand as they were.
        described: Entries of which something else is known now, whose files have not changed.
        absorbed: Entries that became part of a tracklet, or were its earlier self.
        gone: Entries whose files are there no more.
        embedded: Images that went through the network.
        twice: By source whose folder is not there, the paths of entries that this run stored anew from elsewhere.
    """

    def __init__(
        self,
        writer: GalleryWriter,
        reader: SourceReader,
        placing: Placing,
        engine: Engine,
        batch: int,
        embed: Embed = embed_batches,
    ) -> None:
        self.failed: list[FailedImage] = []
        self.added = self.replaced = self.unchanged = self.described = self.absorbed = self.embedded = 0
        self.gone: list[tuple[int, str]] = []
        self.twice: dict[str, list[str]] = {}
        self._writer, self._reader, self._placing = writer, reader, placing
        self._engine, self._batch, self._embed_files = engine, batch, embed
        self._tracklets = reader.options.tracklets != "off"
        self._keys: set[tuple[str, str, Box | None]] = set()
        self._parts: set[tuple[str, str, Box | None]] = set()
        self._sightings: set[tuple[str, str | None, str | None, str]] = set()
        self._names: dict[Path, str] = {}
        self._elsewhere: defaultdict[Path, set[Path]] = defaultdict(set)
        self._commits = 0

    @property
    def taken(self) -> int:
        """Entries that this run found or made."""
        return self.added + self.replaced + self.unchanged + self.described

    def take(self, images: Sequence[SeenImage], reporter: Reporter) -> None:
        """Bring the gallery up to date with these images, wherever they come from."""
        self._names.clear()
        real = settled(images)
        for named, image in zip(images, real, strict=True):
            self._names.setdefault(image.file, named.path)
            if image.root != named.root:
                self._elsewhere[named.root].add(image.root)
        wanted = merged(real)
        with reporter.task("Looking for what is new", len(wanted), "images") as task:
            complete, hashes, unreadable = examine(wanted, self._reader, task)
        self.failed += [FailedImage(path=self._shown(image.file), reason=reason) for image, reason in unreadable]
        subjects = make_subjects(complete, hashes, self._placing, tracklets=self._tracklets)
        for subject in subjects:
            self._remember(subject)
        comparison = Comparison(subjects, self._writer)
        if comparison.described:
            self._writer.describe(comparison.described)
        self.described += len(comparison.described)
        self.unchanged += comparison.unchanged
        for path in comparison.assumed:
            self._reader.doubts.add("changed images keep the identity or time that this run doesn't say", path)
        unread = unreadable_images(comparison.partial)
        self.failed += [FailedImage(path=self._shown(path), reason=reason) for path, reason in unread]
        self._note_twice(comparison)
        self._embed(comparison, reporter)

    def sweep(self, folders: Sequence[Path]) -> None:
        """Find entries that became parts of tracklets, which are removed, and those whose files have gone.

        Args:
            folders: Resolved; all images of these have been taken. Folders to which links in them lead are looked at,
                too.
        """
        absorbed: list[int] = []
        linked = {there for folder in folders for there in self._elsewhere.get(folder, ())}
        for folder in [*folders, *sorted(linked.difference(folders))]:
            for source in self._placing.sources_around(folder):
                root = self._placing.root_of(source)
                for identifier, entry in self._writer.entries_of(source):
                    if entry.key in self._keys or not (root / entry.path).is_relative_to(folder):
                        continue
                    if self._was_absorbed(entry):
                        absorbed.append(identifier)
                    elif not (root / entry.path).is_file():
                        self.gone.append((identifier, entry.path))
        self.gone = sorted(set(self.gone))
        if absorbed:
            self._writer.remove(sorted(set(absorbed)), "absorbed by a tracklet")
        self.absorbed = len(set(absorbed))

    def prune(self) -> int:
        """Remove the entries whose files have gone; returns how many."""
        if self.gone:
            self._writer.remove([identifier for identifier, _ in self.gone], "file gone")
        return len(self.gone)

    def _remember(self, subject: Subject) -> None:
        self._keys.add(subject.entry.key)
        if self._tracklets and TRACKLET in subject.entry.metadata:
            self._parts.update(subject.members)
            self._sightings.add(_sighting(subject.entry))

    def _was_absorbed(self, entry: GalleryEntry) -> bool:
        if entry.key in self._parts:
            return True
        return TRACKLET_IMAGES in entry.metadata and _sighting(entry) in self._sightings

    def _note_twice(self, comparison: Comparison) -> None:
        """Find what is held already from a source that has gone: sources are relative to a gallery, which may move."""
        new = [subject.entry for subject in comparison.missing if subject.entry.key not in comparison.replaced]
        lost = self._placing.lost_sources() if new else []
        for source in lost:
            held = self._writer.existing([(source, entry.path, entry.box) for entry in new])
            found = [entry.path for entry in new if _is_same(held.get((source, entry.path, entry.box)), entry)]
            if found:
                self.twice.setdefault(source, []).extend(found)

    def _embed(self, comparison: Comparison, reporter: Reporter) -> None:
        """Embed what is missing and add it, some at a time."""
        subjects = comparison.missing
        files = [file for subject in subjects for file in subject.files]
        if not files:
            return
        waiting: list[tuple[Subject, np.ndarray]] = []
        with (
            reporter.task("Indexing", len(files), "images") as task,
            closing(self._embed_files(self._engine, files, batch=self._batch)) as parts,
        ):
            for done, part in gather_embeddings(subjects, parts):
                waiting += done
                self.failed += [FailedImage(path=self._shown(path), reason=reason) for path, reason in part.failed]
                self.embedded += len(part.positions)
                if len(waiting) >= COMMIT_IMAGES:
                    self._commit(waiting, comparison)
                task.advance(len(part.positions) + len(part.failed))
        self._commit(waiting, comparison)

    def _commit(self, waiting: list[tuple[Subject, np.ndarray]], comparison: Comparison) -> None:
        if not waiting:
            return
        self._writer.add(
            [subject.entry for subject, _ in waiting],
            np.stack([embedding for _, embedding in waiting]),
            members=[subject.members if subject.tracklet else () for subject, _ in waiting],
        )
        again = sum(subject.entry.key in comparison.replaced for subject, _ in waiting)
        self.replaced += again
        self.added += len(waiting) - again
        waiting.clear()
        self._commits += 1
        if self._commits % _MERGE_EVERY == 0:
            self._writer.finish()

    def _shown(self, path: Path) -> str:
        """A failed file as its source names it."""
        return self._names.get(path, str(path))


def _is_same(held: tuple[int, GalleryEntry] | None, entry: GalleryEntry) -> bool:
    """Whether an entry of another source is made of the same content; a tracklet's hash covers its source, too."""
    return held is not None and (held[1].content_hash == entry.content_hash or TRACKLET_IMAGES in entry.metadata)


def _sighting(entry: GalleryEntry) -> tuple[str, str | None, str | None, str]:
    """What the images of one tracklet share."""
    return entry.source, entry.identity, entry.camera, entry.metadata[TRACKLET]
