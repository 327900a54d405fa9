"""Who is in a gallery: its people with where and when they were seen, and the entries of each."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.images import Box
from sil_cli.errors import UsageError, as_cell, visible
from sil_cli.files import writing
from sil_cli.gallery.accountability.log import log_event
from sil_cli.gallery.entry import Time, in_utc
from sil_cli.gallery.people import State, open_people
from sil_cli.gallery.stores import gallery_store
from sil_cli.output_checks import refuse_overwriting
from sil_cli.people.register import read_register
from sil_cli.people.telling import find_keys
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.gallery.entry import EntryKey, GalleryEntry
    from sil_cli.gallery.interface import Gallery
    from sil_cli.gallery.people import People
    from sil_cli.people.register import Register
    from sil_cli.settings import Settings

_FEW = 200  # entries that are looked up by their paths; to look for more, all are read
COLUMNS = (
    "person",
    "name",
    "state",
    "confidence",
    "id",
    "source",
    "path",
    "box",
    "domain",
    "camera",
    "time",
    "identity",
)


class PersonEntry(Result):
    """An entry that shows a person.

    Attributes:
        id: Of the entry.
        state: `found`, `confirmed` or `rejected`.
        confidence: Of the person's other entries, the share expected to show the same person as this one; 1 for what
            was confirmed, and for a person's only entry.
    """

    id: int
    source: str
    path: str
    box: Box | None
    domain: str | None
    camera: str | None
    time: Time | None
    identity: str | None
    state: State
    confidence: float


class PersonSummary(Result):
    """One person of a gallery.

    Attributes:
        id: Their number, which stays.
        name: None where they have none.
        entries: That show them; `confirmed`: those of which somebody said so.
        rejected: Entries that somebody said don't show them.
        cameras: Where they were seen.
        first: When they were seen first, in UTC; None where times are unknown.
        last: And last.
        confidence: Mean of their entries'.
        best: The id of the entry that shows them most surely; None where none is left.
    """

    id: int
    name: str | None
    entries: int
    confirmed: int
    rejected: int
    cameras: list[str]
    first: Time | None
    last: Time | None
    confidence: float
    best: int | None


class PeopleList(Result):
    """The outcome of `sil people list`.

    Attributes:
        people: Those with a name first, then those with the most entries.
        entries: In the gallery.
        nobody: Entries that are no person's, because they came after `sil people find` or were rejected.
    """

    gallery: Path
    people: list[PersonSummary]
    entries: int
    nobody: int


class PeopleExport(Result):
    """The outcome of `sil people export`."""

    gallery: Path
    people: int
    entries: int
    file: Path


def list_people(settings: Settings) -> PeopleList:
    """The people of a gallery.

    Raises:
        GalleryError: There is no gallery, or it or its file of people is damaged.
    """
    store = gallery_store(settings)
    with store.open() as gallery, open_people(store.folder) as people:
        return people_in(gallery, people)


def people_in(gallery: Gallery, people: People) -> PeopleList:
    """The people of an open gallery."""
    register = read_register(people)
    entries = _entries(gallery, None)
    shown = [_person(register, person, entries) for person in register.names]
    grouped = sum(one.entries for one in shown)
    return PeopleList(
        gallery=gallery.folder,
        people=sorted(shown, key=lambda one: (one.name is None, -one.entries, one.id)),
        entries=len(entries),
        nobody=len(entries) - grouped,
    )


def person_in(gallery: Gallery, people: People, who: str) -> tuple[PersonSummary, list[PersonEntry]]:
    """One person of an open gallery, by number or name, and their entries: the surest first, the rejected last.

    Raises:
        UsageError: There is no such person.
    """
    register = read_register(people)
    person = register.find(who)
    entries = _entries(gallery, [*register.members[person], *register.rejected[person]])
    return _person(register, person, entries), _entries_of(register, person, entries)


def export_people(settings: Settings, out: Path) -> PeopleExport:
    """Write a table of all people's entries: .csv, or .json as a list of objects with the same names.

    Raises:
        UsageError: The file's name ends otherwise, or it is one of the gallery's.
        GalleryError: There is no gallery, or it or its file of people is damaged.
        OSError: The file can't be written.
    """
    if out.suffix.lower() not in (".csv", ".json"):
        raise UsageError(f"People can't be exported as {visible(out.name)}.", "Use a name that ends in .csv or .json.")
    store = gallery_store(settings)
    with store.open() as gallery, open_people(store.folder) as people:
        register = read_register(people)
        entries = _entries(gallery, None)
        refuse_overwriting(out, (entry.file(gallery.folder) for _, entry in entries.values()), option="FILE")
    rows = [
        {"person": person, "name": register.names[person] or None, **entry.model_dump(mode="json")}
        for person in register.names
        for entry in _entries_of(register, person, entries)
    ]
    log_event(settings, store.folder, "export", {"to": out.name, "of": "people", "count": len(rows)})
    with writing(out) as stream:
        stream.write((_as_csv(rows) if out.suffix.lower() == ".csv" else json.dumps(rows, indent=1)).encode())
    return PeopleExport(gallery=store.folder, people=len(register.names), entries=len(rows), file=out)


def _as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        box = row["box"]
        cells = {**row, "box": ",".join(map(str, box)) if isinstance(box, list) else None}
        writer.writerow(["" if cells[name] is None else as_cell(str(cells[name])) for name in COLUMNS])
    return stream.getvalue()


def _entries(gallery: Gallery, keys: Sequence[EntryKey] | None) -> dict[EntryKey, tuple[int, GalleryEntry]]:
    """The gallery's entries of these keys, or all, each with its id."""
    few = keys is not None and len(keys) <= _FEW
    ids = sorted(find_keys(gallery, keys or ()).values()) if few else gallery.ids().tolist()
    return {entry.key: (one, entry) for one, entry in gallery.entries(ids).items()}


def _person(register: Register, person: int, entries: Mapping[EntryKey, tuple[int, GalleryEntry]]) -> PersonSummary:
    members = [one for key, one in register.members[person].items() if key in entries]
    shown = [entries[one.key][1] for one in members]
    times = sorted(in_utc(entry.time) for entry in shown if entry.time is not None)
    best = register.best(person, among=[one.key for one in members])
    return PersonSummary(
        id=person,
        name=register.names[person] or None,
        entries=len(members),
        confirmed=sum(one.state == "confirmed" for one in members),
        rejected=sum(key in entries for key in register.rejected[person]),
        cameras=sorted({entry.camera for entry in shown if entry.camera is not None}),
        first=times[0] if times else None,
        last=times[-1] if times else None,
        confidence=round(sum(one.confidence for one in members) / len(members), 3) if members else 0.0,
        best=None if best is None else entries[best][0],
    )


def _entries_of(
    register: Register, person: int, entries: Mapping[EntryKey, tuple[int, GalleryEntry]]
) -> list[PersonEntry]:
    """A person's entries: the surest first, the rejected last."""
    members = sorted(register.members[person].values(), key=lambda one: (one.state != "confirmed", -one.confidence))
    found = [(one.key, one.state, one.confidence) for one in members]
    found += [(key, "rejected", 0.0) for key in sorted(register.rejected[person], key=str)]
    return [
        PersonEntry(
            id=entries[key][0],
            **{name: getattr(entries[key][1], name) for name in _SHOWN},
            state=state,
            confidence=round(confidence, 3),
        )
        for key, state, confidence in found
        if key in entries
    ]


_SHOWN = ("source", "path", "box", "domain", "camera", "time", "identity")
