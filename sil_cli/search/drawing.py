"""What was found, as the contact sheet and the page."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.images import ImageError, load_image, pixels_in
from sil_cli.errors import SilError, one_line
from sil_cli.files import writing
from sil_cli.gallery.entry import FRAME_BOX, GalleryEntry, Match, footage_moment, in_utc, in_words
from sil_cli.report.canvas import as_png, data_uri, is_wanted, pixelated, shrunk, stacked, tallest, write_sheet
from sil_cli.report.contact_sheet import IMAGE_SIZE, LEGEND, Card, SheetRow, contact_sheet, sheet_size
from sil_cli.report.pages import render
from sil_cli.search.trajectory_drawing import DRAWN_STATIONS, draw_trajectory, duration
from sil_cli.settings import find_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, tzinfo

    from PIL import Image

    from sil_cli.data.images import Box
    from sil_cli.runtime import Reporter
    from sil_cli.search.queries import KnownPerson, Query
    from sil_cli.search.query_results import QueryResult
    from sil_cli.search.trajectory import CameraVisit
    from sil_cli.settings import Settings

DRAWN_MATCHES = 200
"""Matches of a query that are drawn; tables and --json hold all."""

DRAWN_IMAGES = 32
"""Images of a fused query that are drawn: below each other they are as high as a WebP file can be."""

DRAWN_IN_ALL = 1_000
"""Images that are drawn of all queries of a command, at most 124 kB each; queries beyond are left out."""


@dataclass(frozen=True)
class Crop:
    """An image to be drawn, and what is known of it.

    Attributes:
        image: None where it can't be opened any more.
        entry: A match, an entry that the query names, or a query's image in the form of an entry.
        time: When it was taken, by the clock of the user's time zone.
        id: Of the entry; None for an image that isn't in the gallery.
    """

    image: Image.Image | None
    entry: GalleryEntry
    time: datetime | None = None
    id: int | None = None

    @property
    def match(self) -> Match | None:
        """The match that it is, if it is one."""
        return self.entry if isinstance(self.entry, Match) else None

    @property
    def chance(self) -> str:
        """How many false matches are expected, in words; empty where that is not known."""
        expected = None if self.match is None else self.match.expected_false_matches
        return "" if expected is None else f"{in_words(expected)} by chance"

    @property
    def moment(self) -> str:
        """From which footage it was cut, and when; empty where from none."""
        return footage_moment(self.entry)

    @property
    def file(self) -> str:
        """The name of the image file."""
        return Path(self.entry.path).name

    def card(self) -> Card:
        """The image on a contact sheet."""
        entry, match = self.entry, self.match
        facts = [] if entry.identity is not None else [self.file]
        if match is not None and match.person is not None:
            facts.insert(0, match.person_name or f"person {match.person}")
        facts += [] if entry.camera is None else [f"camera {entry.camera}"]
        facts += [] if self.time is None else [f"{self.time:%Y-%m-%d %H:%M}"]
        facts += [moment] if (moment := self.moment) else []
        if match is None:
            return Card(self.image, entry.identity, facts)
        facts += [f"tracklet of {match.images} images"] if match.images > 1 else []
        facts += [self.chance] if self.chance else []
        return Card(self.image, entry.identity, facts, match.rank, match.score, match.decision, match.correct)


@dataclass(frozen=True)
class DrawnQuery:
    """One query as it is drawn.

    Attributes:
        label: It in words.
        verdict: The decision on it as a sentence.
        crops: What was searched for; several where they were fused.
        matches: In rank order.
        left_out: How many more matches there are.
        trajectory: The stations of the path and the best image of each; None where it was not asked for.
        zone: The user's time zone; None for the machine's own.
    """

    label: str
    verdict: str
    crops: list[Crop]
    matches: list[Crop]
    left_out: int
    trajectory: list[tuple[CameraVisit, Image.Image | None]] | None
    zone: tzinfo | None

    def draw_trajectory(self) -> Image.Image | None:
        """The path; None where there is none to draw."""
        return draw_trajectory(self.trajectory, self.zone) if self.trajectory else None


def draw(
    queries: Sequence[Query], results: Sequence[QueryResult], settings: Settings, reporter: Reporter
) -> tuple[Path | None, Path | None]:
    """Write the contact sheet and the page, whichever is asked for; every image is opened once.

    What was found is not lost with a drawing: one that can't be written is a warning.

    Of many queries the first ones are drawn, as many as there is room for in the memory and in the sheet's file type.

    Args:
        queries: What was searched for.
        results: What was found for each.
        settings: They say where to.
        reporter: Gets what can't be opened or written.

    Returns:
        The sheet and the page; None where it was not wanted, or could not be written.
    """
    sheet, page = settings.query.sheet, settings.query.html
    if not is_wanted(sheet) and page is None:
        return None, None
    opener = _Opener(
        settings.gallery.folder,
        find_zone(settings.gallery.timezone),
        pixels_in(settings.data.max_megapixels),
        settings.query.blur,
        settings.query.context,
        reporter,
    )
    drawn = [opener.open_query(*each) for each in _first(list(zip(queries, results, strict=True)))]
    own = settings.is_users_own

    def write_page(path: Path) -> None:
        with writing(path, users_own=own("query.html")) as stream:
            stream.write(query_page(drawn, gallery=str(settings.gallery.folder), of=len(queries)).encode())
        _say_what_is_left_out(len(drawn), len(queries), path, reporter)

    def draw_sheet(path: Path) -> None:
        image, count = query_sheet(drawn, path)
        write_sheet(path, image, users_own=own("query.sheet"))
        _say_what_is_left_out(count, len(queries), path, reporter)

    def is_written(what: str, path: Path, write: Callable[[Path], None], fix: str) -> bool:
        try:
            write(path)
        except BrokenPipeError:  # whoever read stdout has left
            raise
        except (OSError, SilError) as error:
            why = error.what if isinstance(error, SilError) else f"{one_line(error)}."
            reporter.warn(f"{what} was not written to {path}: {why} {fix}")
            return False
        return True

    has_sheet = is_wanted(sheet) and is_written(
        "The contact sheet",
        sheet,
        draw_sheet,
        "Name another file with --sheet FILE, or leave it out with --sheet none.",
    )
    has_page = page is not None and is_written("The page", page, write_page, "Name another file with --html FILE.")
    return sheet if has_sheet else None, page if has_page else None


def _first(found: Sequence[tuple[Query, QueryResult]]) -> Sequence[tuple[Query, QueryResult]]:
    """The first queries, at least one, whose images are not more than are drawn in all."""
    images = [
        min(len(query.images) + len(query.ids), DRAWN_IMAGES) + min(len(result.matches), DRAWN_MATCHES)
        for query, result in found
    ]
    return found[: max(1, bisect_right(list(accumulate(images)), DRAWN_IN_ALL))]


def _say_what_is_left_out(count: int, of: int, path: Path, reporter: Reporter) -> None:
    if count < of:
        reporter.note(f"{path} has room for the first {count:,} of {of:,} queries; tables and --json hold all.")


def query_sheet(queries: Sequence[DrawnQuery], path: Path) -> tuple[Image.Image, int]:
    """The first queries with their matches, and each with its path below where there is one.

    Args:
        queries: At least one.
        path: Its name says the file type, which has room for the first one at least.

    Returns:
        The sheet, and how many queries are on it.
    """
    sheets: list[Image.Image] = []
    rows: list[SheetRow] = []
    width = height = count = 0
    for query in queries:
        row = SheetRow([crop.card() for crop in query.crops], [crop.card() for crop in query.matches])
        trajectory = query.draw_trajectory()
        sizes = [sheet_size([row]), *([] if trajectory is None else [trajectory.size])]
        width, height = max(width, *(size[0] for size in sizes)), height + sum(size[1] for size in sizes)
        if count and height > tallest(path, width):
            break
        count += 1
        rows.append(row)
        if trajectory is not None:
            sheets += [contact_sheet(rows), trajectory]
            rows = []
    if rows:
        sheets.append(contact_sheet(rows))
    return sheets[0] if len(sheets) == 1 else stacked(sheets), count


def query_page(queries: Sequence[DrawnQuery], *, gallery: str, of: int | None = None) -> str:
    """The whole page, which needs nothing else, neither network nor scripts.

    Args:
        queries: In order.
        gallery: Where was searched.
        of: How many queries there were, where more than these.
    """
    some = f", the first {len(queries):,} of {of:,} queries" if of is not None and of > len(queries) else ""
    drawn = [query.draw_trajectory() for query in queries]
    drawings = [None if each is None else data_uri(as_png(each), "image/png") for each in drawn]
    return render(
        "query.html",
        title=f"Matches in {gallery}{some}",
        queries=queries,
        drawings=drawings,
        legend=LEGEND,
        duration=duration,
    )


def was_asked_for(match: Match) -> bool:
    """Whether a match may be the person who was searched for; where nothing says, none may."""
    return match.decision in ("match", "possible")


@dataclass(frozen=True)
class _Opener:
    """Opens the images of queries and matches, each once.

    Attributes:
        gallery: The folder that entries' sources are relative to.
        zone: The time zone of the times shown.
        max_pixels: The most pixels of an image that is read.
        blur: Matches that are neither a match nor a possible one are people nobody asked for: they are pixelated.
        context: Below an image that was cut out of footage, its surroundings are drawn.
        reporter: Gets what can't be opened.
    """

    gallery: Path
    zone: tzinfo | None
    max_pixels: int
    blur: bool
    context: bool
    reporter: Reporter

    def open_query(self, query: Query, result: QueryResult) -> DrawnQuery:
        """A query with the images of all that is drawn of it."""
        if len(result.matches) > DRAWN_MATCHES:
            self.reporter.note(f"Drawing the first {DRAWN_MATCHES} of {len(result.matches):,} matches.")
        matches = [self._open_entry(match, match.id) for match in result.matches[:DRAWN_MATCHES]]
        opened = {crop.id: crop.image for crop in matches}
        ranked = {match.id: match for match in result.matches}
        trajectory: list[tuple[CameraVisit, Image.Image | None]] = []
        for number, visit in enumerate(result.trail or []):
            if number >= DRAWN_STATIONS:
                trajectory.append((visit, None))
                continue
            best = min((ranked[one] for one in visit.ids), key=lambda match: match.rank)
            image = opened[best.id] if best.id in opened else self._open_entry(best, best.id).image
            trajectory.append((visit, image))
        return DrawnQuery(
            label=query.label,
            verdict=result.verdict,
            crops=self._open_own(query),
            matches=matches,
            left_out=len(result.matches) - len(matches),
            trajectory=None if result.trail is None else trajectory,
            zone=self.zone,
        )

    def _open_own(self, query: Query) -> list[Crop]:
        """What a query searches for, as much of it as is drawn."""
        total = len(query.images) + len(query.ids)
        if total > DRAWN_IMAGES:
            self.reporter.note(
                f"Drawing the first {DRAWN_IMAGES} of the {total:,} images that are searched for together."
            )
        entries = list(zip(query.ids, query.entries, strict=True))[: max(0, DRAWN_IMAGES - len(query.images))]
        return [
            *(self._open_file(path, box, query.person) for path, box in query.images[:DRAWN_IMAGES]),
            *(self._open_entry(entry, identifier) for identifier, entry in entries),
        ]

    def _open_file(self, path: Path, box: Box | None, person: KnownPerson) -> Crop:
        entry = GalleryEntry(str(path), "", "", person.identity, person.camera, domain=person.domain, box=box)
        return Crop(shrunk(load_image(path, max_pixels=self.max_pixels, box=box), IMAGE_SIZE), entry)

    def _open_entry(self, entry: GalleryEntry, identifier: int) -> Crop:
        path = entry.file(self.gallery)
        time = None if entry.time is None else in_utc(entry.time).astimezone(self.zone)
        try:
            image = shrunk(load_image(path, max_pixels=self.max_pixels, box=entry.box), IMAGE_SIZE)
            if self.blur and isinstance(entry, Match) and not was_asked_for(entry):
                image = pixelated(image)
            elif self.context and FRAME_BOX in entry.metadata:
                image = self._in_context(image, entry)
        except ImageError as error:
            self.reporter.warn(f"{path}: {error.reason}; it is missing from the sheet.")
            image = None
        return Crop(image, entry, time, identifier)

    def _in_context(self, image: Image.Image, entry: GalleryEntry) -> Image.Image:
        """An image and below it what was around it in its footage; without, where that can't be read any more."""
        from sil_cli.footage.context import in_context, read_moment

        try:
            frame, box = read_moment(entry.metadata, self.gallery / entry.source, max_pixels=self.max_pixels)
        except SilError as error:
            self.reporter.warn(f"{entry.path}: without its surroundings: {error.what}")
            return image
        return in_context(image, frame, box, IMAGE_SIZE, hide_others=self.blur)
