"""Reading each kind of source: a folder, a prepared data set, a table, a list, a stream, or one image."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote

from sil_cli.data.image_formats import IMAGE_SUFFIXES, why_no_image
from sil_cli.data.images import parse_box
from sil_cli.data.manifest import Dataset, Skipped, is_dataset, load_dataset
from sil_cli.data.tables import TABLE_SUFFIXES, binary_kind, mistyped, read_rows, require_columns
from sil_cli.data.walking import UNSTORABLE, find_image_files
from sil_cli.errors import DataError, UsageError, one_line
from sil_cli.files import MOST_LINES, as_on_disk, composed, parse_json, path_below, read_bytes, require_reachable
from sil_cli.gallery.entry import TRACKLET, TRACKLET_END, TRACKLET_IMAGES, EntryKey, GalleryEntry
from sil_cli.gallery.ingest.streams import portions_of_lines, split_lines
from sil_cli.patterns import PathPattern
from sil_cli.settings import find_zone
from sil_cli.times import AmbiguousTimeError, TimeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from sil_cli.models.embed import ImageFile
    from sil_cli.runtime import Reporter
    from sil_cli.settings import GallerySettings

STREAM = Path("-")
LIST_SUFFIXES = frozenset({".txt", ".lst"})
STREAM_PORTION = 1024
TABLE_COLUMNS = ("identity", "camera", "time", TRACKLET, "box", "domain")
_EXPORTED = frozenset({"source", "content_hash", "metadata"})
"""Columns by which a table that `sil gallery export` wrote is known."""

PATTERN_GROUPS = ("identity", "camera", "time", TRACKLET)
NOT_MATCHED = "images have names that the pattern doesn't match"
TIME_NOT_READ = "times can't be read and are left out"
TIME_AMBIGUOUS = "times can be read in several ways and are left out; say which with --time-format"
CONTRADICTED = "lines contradict an earlier one of the same image, which counts"
_PATTERN_EXAMPLE = r"(?P<camera>c\d+)_(?P<time>\d{8}T\d{6})"
_LONGEST_SHOWN = 200
_FILE_ADDRESS = re.compile(r"file:(?://(?:localhost)?)?(/.*)", re.IGNORECASE)


@dataclass
class Warnings:
    """What looked odd in many images, each kind said once.

    Attributes:
        counts: How often, by kind.
        examples: The first of each kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        """Note one more."""
        self.counts[kind] += 1
        self.examples.setdefault(kind, example)

    def report(self, reporter: Reporter) -> list[str]:
        """Warn of each kind once; returns what was said."""
        lines = [f"{count:,} {kind}, such as {self.examples[kind]}." for kind, count in self.counts.items()]
        for line in lines:
            reporter.warn(line)
        return lines


@dataclass
class SourceImages:
    """What one source holds.

    Attributes:
        items: In the source's order: images, whose `source` is the whole path of a folder and whose hash is not known
            yet; and names that stand for none.
        skipped: What a folder holds besides.
        folder: The folder of which this is all, so that what else the gallery has of it may be missing; None where
            the source is a choice of images.
        unlisted: Whole paths of the folders in it that can't be listed, so that nothing is known of what they hold.
        dataset: The prepared data set that it is.
    """

    items: list[GalleryEntry | Skipped] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    folder: Path | None = None
    unlisted: list[Path] = field(default_factory=list)
    dataset: Dataset | None = None

    @property
    def images(self) -> list[GalleryEntry]:
        """The images, in order."""
        return [item for item in self.items if isinstance(item, GalleryEntry)]

    @property
    def files(self) -> list[ImageFile]:
        """Where the images lie, in order, each with the box to cut out."""
        return [(Path(image.source, image.path), image.box) for image in self.images]

    @property
    def failed(self) -> list[Skipped]:
        """All that can't be used."""
        return [*(item for item in self.items if isinstance(item, Skipped)), *self.skipped]


class SourceReader:
    """Reads sources by the same settings, and gathers what is odd about them.

    Args:
        settings: They say what is read from names and times, and which images are one tracklet.

    Attributes:
        warnings: What looked odd so far.
        read_images: How many images were read.

    Raises:
        UsageError: The pattern, the time format or the zone is not valid.
    """

    def __init__(self, settings: GallerySettings) -> None:
        self.settings = settings
        self.warnings = Warnings()
        self.read_images = 0
        self._pattern = None if settings.pattern is None else compile_pattern(settings.pattern)
        zone = find_zone(settings.timezone)
        self._times, self._exif_times = TimeReader(settings.time_format, zone), TimeReader(zone=zone)

    def read(self, source: Path, *, queries: bool = False) -> SourceImages:
        """Read a source that is no stream.

        Args:
            source: A folder, a prepared data set, a table, a list of paths or an image.
            queries: Of a prepared data set, take the queries instead of the gallery.

        Raises:
            SilError: It is missing, none of these, empty or damaged.
        """
        require_reachable(source)
        if not source.exists():
            raise UsageError(
                f"There is no file or folder {source}.",
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
        if suffix in IMAGE_SUFFIXES or why_no_image(str(source)) is None:
            folder = source.parent.resolve()
            return SourceImages([self._chosen(source.name, folder, os.path.realpath)])
        kind = binary_kind(source) or "a file"
        raise UsageError(
            f"{source} is {kind}, but neither a table (.csv), a list of paths (.txt) nor an image.",
            "Name the folder that holds the images, or a prepared data set.",
        )

    def stream(self, stream: BinaryIO, *, at_most: int = STREAM_PORTION, linger: float) -> Iterator[SourceImages]:
        """Read paths from a stream, some at a time, for as long as it goes on (see `portions_of_lines`)."""
        for lines in portions_of_lines(stream, at_most=at_most, linger=linger):
            yield self._paths(lines)

    def read_time(self, text: str, path: str, *, exif: bool = False) -> datetime | None:
        """The moment that a text of a name, a table or an EXIF tag stands for; None, and a warning, where unclear."""
        try:
            return (self._exif_times if exif else self._times).read(text)
        except AmbiguousTimeError as error:
            self.warnings.add(TIME_AMBIGUOUS, f"'{text}' of {path}, {error}")
            return None
        except ValueError:
            self.warnings.add(TIME_NOT_READ, f"'{text}' of {path}")
            return None

    def _settled(self, time: datetime, path: str) -> datetime | None:
        try:
            return self._times.settle(time)
        except ValueError:
            self.warnings.add(
                "times lie outside the years 1 to 9999 of UTC and are left out", f"{time.isoformat()} of {path}"
            )
            return None

    def _dataset(self, dataset: Dataset, queries: bool) -> SourceImages:
        root = dataset.root.resolve()
        wanted = dataset.of_split("query" if queries else "gallery") or dataset.records
        images = [
            GalleryEntry(
                record.path,
                "",
                str(root),
                identity=record.identity,
                camera=record.camera,
                time=self._settled(record.time, record.path) if record.time else None,
                domain=record.domain,
                box=record.box,
            )
            for record in wanted
            if not record.junk
        ]
        return SourceImages([self._complete(image) for image in images], folder=root, dataset=dataset)

    def _folder(self, folder: Path) -> SourceImages:
        found = find_image_files(folder)
        if not found.paths:
            first = f"; passed over: {found.skipped[0].path} ({found.skipped[0].reason})" if found.skipped else ""
            raise DataError(
                f"There are no images in {folder}{first}.", "Name a folder of crops (jpg, png, bmp, webp, tif, ppm)."
            )
        root = folder.resolve()
        images = [self._complete(GalleryEntry(path, "", str(root))) for path in found.paths]
        return SourceImages([*images], found.skipped, root, [root / one for one in found.unlisted])

    def _table(self, table: Path, queries: bool) -> SourceImages:
        root = (self.settings.root or table.parent).resolve()
        source = SourceImages(folder=root)
        first: dict[EntryKey, GalleryEntry] = {}
        for line, row in read_rows(table, lambda columns: require_columns(table, columns, ("path",), TABLE_COLUMNS)):
            image = self._row(row, line, table, root)
            source.items.append(image)
            if isinstance(image, GalleryEntry) and not queries:  # of which each line is one
                known = contradiction(first.setdefault(image.key, image), image)
                if known is not None:
                    self.warnings.add(CONTRADICTED, f"{table}, line {line}: {image.path} has {known}")
        if not source.items:
            raise DataError(f"{table} lists no images.", "Write one line per image below the header.")
        return source

    def _row(self, row: Mapping[str, str], line: int, table: Path, root: Path) -> GalleryEntry | Skipped:
        known = {column: text for column, text in row.items() if column}
        written, box = known.pop("path", ""), known.pop("box", "")
        if row.keys() >= _EXPORTED:
            known = _as_exported(known)
        if "" in row:
            return Skipped(path=written, reason=f"line {line} has more cells than the header")
        if not written:
            return Skipped(path=f"line {line}", reason=f"line {line} has no path")
        path = path_below(root, written)
        if path is None:
            raise DataError(
                f"{table}, line {line}: {written} lies outside {root}.",
                "A table reads no file outside its own folder; use --root DIR for a folder above all of its images, "
                "and write their paths as seen from there.",
            )
        try:
            image = GalleryEntry(path, "", str(root), box=parse_box(box) if box else None)
        except (ValueError, OverflowError):
            return Skipped(path=path, reason=f"line {line}: box '{box}' is not left,top,width,height in pixels")
        return self._complete(image, known)

    def _list(self, listing: Path) -> SourceImages:
        try:
            content = read_bytes(listing, most=MOST_LINES)
        except OSError as error:
            raise DataError(f"{listing} can't be read: {one_line(error)}.", "Check the path.") from error
        found = self._paths([line for lines in split_lines([content]) for line in lines])
        if not found.items:
            raise DataError(f"{listing} lists no images.", "Write one path per line.")
        return found

    def _paths(self, lines: list[bytes]) -> SourceImages:
        """Paths that the user chose: any file may be meant."""
        base = (self.settings.root or Path.cwd()).resolve()
        real = cache(os.path.realpath)  # for these lines alone: a link may lead elsewhere while a stream goes on
        source = SourceImages()
        for line in lines:
            try:
                written = line.decode("utf-8")
                meant = next((one for one in _spellings(written) if one and os.path.lexists(base / one)), None)
                source.items.append(self._chosen(meant or str(as_on_disk(base / written)), base, real))
            except UnicodeDecodeError:
                shown = line.decode("utf-8", "backslashreplace")[:_LONGEST_SHOWN]
                source.items.append(Skipped(path=shown, reason="a name that is not UTF-8"))
        return source

    def _chosen(self, written: str, base: Path, real: Callable[[str], str]) -> GalleryEntry | Skipped:
        """An image that the user chose, by the name that it was given where that says where it lies below `base`."""
        file = base / written
        if ".." in file.parts or not file.is_relative_to(base):  # behind a link, `..` is not what stands before it
            file = Path(real(str(file.parent)), file.name)
        root = base if file.is_relative_to(base) else file.parent
        path = file.relative_to(root).as_posix()
        if "\\" in path:
            return Skipped(path=path, reason=UNSTORABLE)
        return self._complete(GalleryEntry(path, "", str(root)))

    def _complete(self, image: GalleryEntry, known: Mapping[str, str] | None = None) -> GalleryEntry:
        """Add what the source says in words, then what only the path says."""
        self.read_images += 1
        if known:
            image = image.filled_from(self._in_words(image, known))
        if self._pattern is not None:
            found = self._pattern.search(image.path)
            if found is None:
                self.warnings.add(NOT_MATCHED, image.path)
            else:
                image = image.filled_from(self._in_words(image, found))
        if self.settings.tracklets == "folder":
            folder = os.path.dirname(image.path) or Path(image.source).name  # noqa: PTH120 -- a name, not a path on the disk
            image = replace(image, metadata={TRACKLET: composed(folder), **image.metadata})
        return image

    def _in_words(self, image: GalleryEntry, words: Mapping[str, str | None]) -> GalleryEntry:
        """What words say of an image, by their names."""
        known = {name: composed(text) for name, text in words.items() if text}
        time = known.pop("time", None)
        return GalleryEntry(
            image.path,
            "",
            image.source,
            identity=known.pop("identity", None),
            camera=known.pop("camera", None),
            time=None if time is None else self.read_time(time, image.path),
            domain=known.pop("domain", None),
            metadata=known,
        )


def compile_pattern(pattern: str) -> PathPattern:
    """A pattern that is matched in each path relative to its source.

    The groups identity, camera, time and tracklet are understood; any other becomes a column of its own.

    Raises:
        UsageError: It is no regular expression, has no named group, or one that looks mistyped.
    """
    expression = PathPattern(pattern, example=_PATTERN_EXAMPLE)
    if not expression.groups:
        raise UsageError(
            f"The pattern {pattern!r} has no named group.",
            f"Name the parts to be read ({', '.join(PATTERN_GROUPS)}), for example: '{_PATTERN_EXAMPLE}'.",
        )
    for group in expression.groups:
        near = mistyped(group, PATTERN_GROUPS)
        if near:
            raise UsageError(f"The pattern has a group '{group}'.", f"Rename it to '{near}' or to something else.")
    return expression


def contradiction(first: GalleryEntry, other: GalleryEntry) -> str | None:
    """The first thing that both know and `other` knows differently: `camera c2, not c1`; None where they agree."""
    known = _facts(first)
    for name, value in _facts(other).items():
        if name in known and known[name] != value:
            return f"{name} {value}, not {known[name]}"
    return None


def _facts(image: GalleryEntry) -> dict[str, str]:
    """All that is known of an image, in words."""
    time = image.time.isoformat() if image.time is not None else None
    named = {"identity": image.identity, "camera": image.camera, "time": time, "domain": image.domain}
    return {name: value for name, value in {**named, **image.metadata}.items() if value is not None}


def _as_exported(row: Mapping[str, str]) -> dict[str, str]:
    """What a row of `sil gallery export` says of an image; what it says of its place in that gallery is left out."""
    known = {key: text for key, text in row.items() if key not in ("id", *_EXPORTED)}
    try:
        metadata = parse_json(row["metadata"] or "{}").items()
    except (ValueError, AttributeError):
        return dict(row)
    ours = (TRACKLET_IMAGES, TRACKLET_END)
    return {**{str(key): str(text) for key, text in metadata if key not in ours}, **known}


def _spellings(line: str) -> Iterator[str]:
    """What a line of a list may name: the name itself, or else what programs make of one."""
    yield line
    bare = line.strip("\ufeff \t\r")
    yield bare
    if len(bare) > 2 and bare[0] in "\"'" and bare[-1] == bare[0]:
        bare = bare[1:-1]
        yield bare
    address = _FILE_ADDRESS.fullmatch(bare)
    if address is not None:
        bare = unquote(address[1])
        yield bare
    yield bare.replace("\\", "/")
