"""Reading each kind of source: a folder, a prepared data set, a table, a list, a stream, or one image."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sil_cli.data.manifest import Dataset, is_dataset, load_dataset
from sil_cli.data.tables import TABLE_SUFFIXES
from sil_cli.data.walking import IMAGE_SUFFIXES, UNSTORABLE, find_image_files
from sil_cli.errors import DataError, UsageError
from sil_cli.files import one_line, open_file
from sil_cli.gallery.ingest.ingested_image import SeenImage
from sil_cli.gallery.ingest.streams import portions_of_lines
from sil_cli.gallery.ingest.table import read_table
from sil_cli.gallery.results import FailedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from sil_cli.data.images import Box
    from sil_cli.gallery.ingest.options import IngestOptions
    from sil_cli.runtime import Reporter

STREAM = Path("-")
LIST_SUFFIXES = frozenset({".txt", ".lst"})
STREAM_PORTION = 1024
_LONGEST_SHOWN = 200


@dataclass
class Doubts:
    """What looked odd in many images, each kind told once.

    Attributes:
        counts: How often, by kind.
        examples: The first of each kind.
        read: Images whose names a pattern was tried on.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    read: int = 0

    def add(self, kind: str, example: str) -> None:
        """Note one more."""
        self.counts[kind] += 1
        self.examples.setdefault(kind, example)

    def tell(self, reporter: Reporter) -> list[str]:
        """Warn of each kind once; returns what was said."""
        told = [f"{count:,} {kind}, such as {self.examples[kind]}." for kind, count in self.counts.items()]
        for line in told:
            reporter.warn(line)
        return told


@dataclass
class Source:
    """What one source holds.

    Attributes:
        items: In the source's order: images, and names that stand for none.
        skipped: What a folder holds besides.
        folder: The folder of which this is all, so that what else the gallery has of it may be gone; None where
            the source is a choice of images.
        dataset: The prepared data set that it is.
    """

    items: list[SeenImage | FailedImage] = field(default_factory=list)
    skipped: list[FailedImage] = field(default_factory=list)
    folder: Path | None = None
    dataset: Dataset | None = None

    @property
    def images(self) -> list[SeenImage]:
        """The images, in order."""
        return [item for item in self.items if isinstance(item, SeenImage)]

    @property
    def failed(self) -> list[FailedImage]:
        """All that can't be used."""
        return [*(item for item in self.items if isinstance(item, FailedImage)), *self.skipped]


class SourceReader:
    """Reads sources by the same options, and gathers what is odd about them.

    Attributes:
        doubts: What looked odd so far.
    """

    def __init__(self, options: IngestOptions) -> None:
        self.options = options
        self.doubts = Doubts()

    def read(self, source: Path, *, queries: bool = False) -> Source:
        """Read a source that is no stream.

        Args:
            source: A folder, a prepared data set, a table, a list of paths or an image.
            queries: Of a prepared data set, take the queries instead of the gallery.

        Raises:
            SilError: It is missing, none of these, empty or damaged.
        """
        if not source.exists():
            raise UsageError(
                f"There is no folder {source}, nor a file of that name.",
                "Name a folder of crops, a prepared data set, a .csv table, or - for a stream of paths.",
            )
        if is_dataset(source):
            return self._dataset(load_dataset(source), queries)
        if source.is_dir():
            return self._folder(source)
        suffix = source.suffix.lower()
        if suffix in TABLE_SUFFIXES:
            return self._table(source, queries)
        if suffix in LIST_SUFFIXES:
            return self._list(source)
        if suffix in IMAGE_SUFFIXES:
            folder = source.parent.resolve()
            return Source([self._chosen(source.name, folder, os.path.realpath)])
        raise UsageError(
            f"{source} is a file, but neither a table (.csv), a list of paths (.txt) nor an image.",
            "Name the folder that holds the images, or a prepared data set.",
        )

    def stream(self, stream: BinaryIO, *, at_most: int = STREAM_PORTION, linger: float) -> Iterator[Source]:
        """Read paths from a stream, some at a time, for as long as it goes on (see `portions_of_lines`)."""
        for lines in portions_of_lines(stream, at_most=at_most, linger=linger):
            yield self._paths(lines)

    def _dataset(self, dataset: Dataset, queries: bool) -> Source:
        root = dataset.root.resolve()
        wanted = dataset.of_split("query" if queries else "gallery") or dataset.records
        images = [
            SeenImage(
                root,
                record.path,
                box=record.box,
                identity=record.identity,
                camera=record.camera,
                time=self.options.times.settle(record.time) if record.time else None,
                domain=record.domain,
            )
            for record in wanted
            if not record.junk
        ]
        return Source([self._complete(image, {}) for image in images], folder=root, dataset=dataset)

    def _folder(self, folder: Path) -> Source:
        found = find_image_files(folder)
        if not found.paths:
            raise DataError(
                f"There is no image in {folder}.", "Name a folder of crops (jpg, png, bmp, webp, tif, ppm)."
            )
        root = folder.resolve()
        images = [self._complete(SeenImage(root, path), {}) for path in found.paths]
        return Source([*images], [FailedImage(path=each.path, reason=each.reason) for each in found.skipped], root)

    def _table(self, table: Path, queries: bool) -> Source:
        root = (self.options.root or table.parent).resolve()
        source = Source(folder=root)
        first: dict[tuple[str, Box | None], SeenImage] = {}
        for row in read_table(table, root):
            if isinstance(row, FailedImage):
                source.items.append(row)
                continue
            image = self._complete(row.image, row.known)
            source.items.append(image)
            if not queries:  # of which each line is one
                self._compare(first.setdefault((image.path, image.box), image), image, f"{table}, line {row.line}")
        if not source.items:
            raise DataError(f"{table} names no image.", "Write one line an image below the header.")
        return source

    def _compare(self, first: SeenImage, image: SeenImage, where: str) -> None:
        """Doubt a line that says something else of an image than the first one, which is the one that counts."""
        told = first.contradicted_by(image)
        if told is not None:
            self.doubts.add(
                "lines contradict an earlier one of the same image, which counts", f"{where}: {image.path} has {told}"
            )

    def _list(self, listing: Path) -> Source:
        try:
            with open_file(listing) as stream:
                content = stream.read()
        except OSError as error:
            raise DataError(f"{listing} can't be read: {one_line(error)}.", "Check the path.") from error
        end = b"\0" if b"\0" in content else b"\n"
        found = self._paths([line for line in (each.removesuffix(b"\r") for each in content.split(end)) if line])
        if not found.items:
            raise DataError(f"{listing} names no image.", "Write one path a line.")
        return found

    def _paths(self, lines: list[bytes]) -> Source:
        """Paths that the user chose: any file may be meant."""
        base = (self.options.root or Path.cwd()).resolve()
        real = cache(os.path.realpath)  # for these lines alone: a link may lead elsewhere while a stream goes on
        source = Source()
        for line in lines:
            try:
                source.items.append(self._chosen(line.decode("utf-8"), base, real))
            except UnicodeDecodeError:
                shown = line.decode("utf-8", "backslashreplace")[:_LONGEST_SHOWN]
                source.items.append(FailedImage(path=shown, reason="a name that is not UTF-8"))
        return source

    def _chosen(self, written: str, base: Path, real: Callable[[str], str]) -> SeenImage | FailedImage:
        """An image that the user chose, by the name that it was given where that says where it lies below `base`."""
        file = base / written
        if ".." in file.parts or not file.is_relative_to(base):  # behind a link, `..` is not what stands before it
            file = Path(real(str(file.parent)), file.name)
        root = base if file.is_relative_to(base) else file.parent
        path = file.relative_to(root).as_posix()
        if "\\" in path:
            return FailedImage(path=path, reason=UNSTORABLE)
        return self._complete(SeenImage(root, path), {})

    def _complete(self, image: SeenImage, said: Mapping[str, str]) -> SeenImage:
        """Add what the source says in words, then what only the path says."""
        image = self._with_words(image, said)
        named = self.options.named(image.path)
        self.doubts.read += 1
        if named is None:
            self.doubts.add("images have names that the pattern doesn't match", image.path)
        elif named:
            image = image.filled_from(self._with_words(SeenImage(image.root, image.path), named))
        if self.options.tracklets == "folder":
            folder = os.path.dirname(image.path) or image.root.name  # noqa: PTH120 -- a name, not a path on the disk
            return image.filled_from(SeenImage(image.root, image.path, tracklet=folder))
        return image

    def _with_words(self, image: SeenImage, words: Mapping[str, str]) -> SeenImage:
        if not words:
            return image
        known = {name: text for name, text in words.items() if text}
        moment = self.read_time(known.pop("time", None), image.path)
        return image.filled_from(
            SeenImage(
                image.root,
                image.path,
                identity=known.pop("identity", None),
                camera=known.pop("camera", None),
                time=moment,
                domain=known.pop("domain", None),
                tracklet=known.pop("tracklet", None),
                metadata=known,
            )
        )

    def read_time(self, text: str | None, path: str) -> datetime | None:
        """The moment that a text stands for; None, and a doubt, where it can't be read."""
        if text is None:
            return None
        try:
            return self.options.times.read(text)
        except ValueError:
            self.doubts.add("times can't be read and are left out", f"'{text}' of {path}")
            return None
