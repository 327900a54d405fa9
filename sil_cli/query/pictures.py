"""What was found, as pictures: the contact sheet and the page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.images import ImageError, load_image
from sil_cli.files import writing
from sil_cli.gallery.ingest.times import find_zone
from sil_cli.query.trajectory import images_of, moment
from sil_cli.report.contact_sheet import SheetRow, Tile, contact_sheet, stacked
from sil_cli.report.query_page import PageQuery, query_page
from sil_cli.report.trajectory import Stop, draw_trail

if TYPE_CHECKING:
    from PIL import Image

    from sil_cli.evaluation.calibration import Decision
    from sil_cli.gallery.entry import GalleryEntry, Match
    from sil_cli.query.queries import KnownPerson, Query
    from sil_cli.query.trajectory import Sighting
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

SHEET_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
DRAWN_MATCHES = 200
"""Matches of a query that are drawn; tables and --json hold all."""


@dataclass(frozen=True)
class Found:
    """One query and everything that was found for it.

    Attributes:
        query: What was searched for.
        entries: The gallery entries that the query names.
        person: Whom it shows, as far as that is known.
        matches: The listed matches.
        decisions: What their scores mean, one each; None without a calibration.
        verdict: The decision on the query as a sentence.
        sightings: The path through cameras and time, where it was asked for.
    """

    query: Query
    entries: list[GalleryEntry]
    person: KnownPerson
    matches: list[Match]
    decisions: list[Decision | None]
    verdict: str
    sightings: list[Sighting] | None


def draw(found: list[Found], settings: Settings, reporter: Reporter) -> None:
    """Write the contact sheet, and the page where one is asked for; every picture is opened once.

    Raises:
        OSError: They can't be written.
    """
    queries = [
        PageQuery(
            label=one.query.label,
            pictures=_query_tiles(one, settings, reporter),
            verdict=one.verdict,
            matches=_match_tiles(one, settings, reporter),
            left_out=max(0, len(one.matches) - DRAWN_MATCHES),
            stops=_stops(one, settings, reporter) if one.sightings is not None else None,
        )
        for one in found
    ]
    sheet = settings.query.sheet
    with writing(sheet, users_own=settings.is_users_own("query.sheet")) as stream:
        _sheet(queries).save(stream, format=SHEET_FORMATS[sheet.suffix.lower()], quality=92)
    if settings.query.html is not None:
        with writing(settings.query.html, users_own=settings.is_users_own("query.html")) as stream:
            stream.write(query_page(queries, gallery=str(settings.gallery.folder)).encode())


def _sheet(queries: list[PageQuery]) -> Image.Image:
    """Every query with its matches, and with its path below where there is one."""
    pictures: list[Image.Image] = []
    rows: list[SheetRow] = []
    for query in queries:
        first, *others = query.pictures
        rows.append(SheetRow(first, query.matches, also=others))
        if query.stops:
            pictures += [contact_sheet(rows), draw_trail(query.stops)]
            rows = []
    if rows:
        pictures.append(contact_sheet(rows))
    return stacked(pictures)


def _query_tiles(found: Found, settings: Settings, reporter: Reporter) -> list[Tile]:
    person = found.person
    tiles = [
        Tile(
            image=load_image(path, box=box),
            identity=person.identity,
            camera=person.camera,
            name=path.name,
            domain=person.domain,
        )
        for path, box in found.query.pictures
    ]
    tiles += [
        Tile(
            image=_picture(settings.gallery.folder / entry.source / entry.path, entry.box, reporter),
            identity=entry.identity,
            camera=entry.camera,
            time=_shown_time(entry.time, settings),
            name=Path(entry.path).name,
            domain=entry.domain,
            id=number,
        )
        for number, entry in zip(found.query.ids, found.entries, strict=True)
    ]
    return tiles


def _match_tiles(found: Found, settings: Settings, reporter: Reporter) -> list[Tile]:
    drawn = list(zip(found.matches, found.decisions, strict=True))[:DRAWN_MATCHES]
    if len(found.matches) > DRAWN_MATCHES:
        reporter.note(f"The first {DRAWN_MATCHES} of {len(found.matches):,} matches are drawn.")
    return [_tile(match, decision, settings, reporter) for match, decision in drawn]


def _tile(match: Match, decision: Decision | None, settings: Settings, reporter: Reporter) -> Tile:
    return Tile(
        image=_picture(settings.gallery.folder / match.source / match.path, match.box, reporter),
        identity=match.identity,
        camera=match.camera,
        time=_shown_time(match.time, settings),
        rank=match.rank,
        score=match.score,
        name=Path(match.path).name,
        domain=match.domain,
        decision=decision,
        images=images_of(match),
        id=match.id,
    )


def _stops(found: Found, settings: Settings, reporter: Reporter) -> list[Stop]:
    return [
        Stop(
            camera=one.camera,
            start=_shown_time(one.start, settings),
            end=_shown_time(one.end, settings),
            after=one.after,
            image=_picture(settings.gallery.folder / one.best.source / one.best.path, one.best.box, reporter),
            images=one.images,
            score=one.best.score,
            decision=found.decisions[one.best.rank - 1],
            at_once=one.at_once,
        )
        for one in found.sightings or []
    ]


def _picture(path: Path, box: tuple[int, int, int, int] | None, reporter: Reporter) -> Image.Image | None:
    try:
        return load_image(path, box=box)
    except ImageError as error:
        reporter.warn(f"{path}: {error.reason}; it is missing from the picture.")
        return None


def _shown_time(time: datetime | None, settings: Settings) -> datetime | None:
    """A time as a clock in the zone of `--timezone` shows it."""
    return None if time is None else moment(time).astimezone(find_zone(settings.gallery.timezone))
