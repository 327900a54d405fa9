"""`sil people show`: a person's entries on a contact sheet, and their path through the camera network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.gallery.entry import make_match
from sil_cli.gallery.people import open_people
from sil_cli.gallery.stores import gallery_store
from sil_cli.people.overview import PersonEntry, PersonSummary, person_in
from sil_cli.report.canvas import require_sheet_format
from sil_cli.results import Result
from sil_cli.search.drawing import draw
from sil_cli.search.queries import KnownPerson, Query
from sil_cli.search.query_results import QueryResult
from sil_cli.search.search import refuse_harming_gallery, refuse_overwriting_entries
from sil_cli.search.trajectory import CameraVisit, find_visits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.gallery.entry import Match
    from sil_cli.gallery.interface import Gallery
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings


class PersonResult(Result):
    """The outcome of `sil people show`.

    Attributes:
        person: Who.
        shown: Their entries: the surest first, those that were rejected last.
        trail: Their path by camera and time, of the entries that show them; `score` is the highest confidence, and
            `decision` is `match` where an entry was confirmed.
        timezone: Of the times shown.
        sheet: The contact sheet; None where it was not wanted, or could not be written.
        html: The page, likewise.
    """

    gallery: Path
    person: PersonSummary
    shown: list[PersonEntry]
    trail: list[CameraVisit]
    timezone: str = "UTC"
    sheet: Path | None = None
    html: Path | None = None


def show_person(settings: Settings, reporter: Reporter, who: str) -> PersonResult:
    """A person's entries and path, drawn.

    Args:
        settings: With the gallery, and where the sheet and the page go.
        reporter: Is told of images that can't be opened.
        who: A number or a name.

    Raises:
        UsageError: There is no such person, or the sheet or page can't be written there.
        GalleryError: There is no gallery, or it or its file of people is damaged.
    """
    wanted = settings.query
    require_sheet_format(wanted.sheet)
    outputs = {"--sheet": wanted.sheet, "--html": wanted.html}
    for option, out in outputs.items():
        refuse_harming_gallery(out, settings, option=option)
    store = gallery_store(settings)
    with store.open() as gallery, open_people(store.folder) as people:
        for option, out in outputs.items():
            refuse_overwriting_entries(out, gallery, option=option)
        person, shown = person_in(gallery, people, who)
        matches = _matches(gallery, shown)
        best = gallery.entries([person.best] if person.best is not None else [])
    trail = find_visits(matches, gap=wanted.gap)
    name = person.name or f"person {person.id}"
    seen = f"{person.entries:,} {'entry' if person.entries == 1 else 'entries'}, {person.confirmed:,} confirmed"
    sheet = page = None
    if matches:
        query = Query(ids=tuple(best), entries=tuple(best.values()), person=KnownPerson(name))
        result = QueryResult(
            image=next(iter(best.values())).file(store.folder),
            query=name,
            gallery=store.folder,
            identity=name,
            camera=None,
            verdict=f"{name}: {seen}.",
            matches=matches,
            trail=trail,
            timezone=settings.gallery.timezone,
        )
        sheet, page = draw([query], [result], settings, reporter)
    return PersonResult(
        gallery=store.folder,
        person=person,
        shown=shown,
        trail=trail,
        timezone=settings.gallery.timezone,
        sheet=sheet,
        html=page,
    )


def _matches(gallery: Gallery, shown: Sequence[PersonEntry]) -> list[Match]:
    """The entries that show a person, as matches: what was confirmed is one, what was found a possible one."""
    members = [one for one in shown if one.state != "rejected"]
    entries = gallery.entries([one.id for one in members])
    return [
        replace(
            make_match(rank, one.confidence, one.id, entries[one.id]),
            decision="match" if one.state == "confirmed" else "possible",
        )
        for rank, one in enumerate(members, start=1)
    ]
