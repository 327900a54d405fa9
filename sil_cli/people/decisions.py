"""What somebody says of the people of a gallery: `sil people name`, `merge`, `split`, `confirm` and `reject`.

`by` is who says so; None: whoever is logged in.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.gallery.people import open_people
from sil_cli.gallery.stores import gallery_store_to_write
from sil_cli.people import register
from sil_cli.people.overview import PersonSummary, person_in
from sil_cli.people.telling import find_entry, judge
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sil_cli.gallery.entry import EntryKey
    from sil_cli.gallery.people import People
    from sil_cli.settings import Settings


class PersonChange(Result):
    """What a person has become.

    Attributes:
        person: As they are now.
    """

    gallery: Path
    person: PersonSummary

    @property
    def label(self) -> str:
        """What the person is called."""
        return self.person.name or f"Person {self.person.id}"


def name(settings: Settings, who: str, name: str) -> PersonChange:
    """Give a person a name; '' takes it back. Raises as `register.name_person`."""
    return _changed(settings, (), lambda people, _: register.name_person(people, who, name))


def merge(settings: Settings, who: str, others: Sequence[str], *, by: str | None) -> PersonChange:
    """Make some people one. Raises as `register.merge_people`."""
    return _changed(settings, (), lambda people, _: register.merge_people(people, who, others, by=judge(by)))


def split(settings: Settings, who: str, entries: Sequence[str], *, by: str | None) -> PersonChange:
    """Make a new person of some of a person's entries. Raises as `register.split_person` and `find_entry`."""
    return _changed(settings, entries, lambda people, keys: register.split_person(people, who, keys, by=judge(by)))


def confirm(settings: Settings, who: str, entries: Sequence[str], *, by: str | None) -> PersonChange:
    """Say that entries show a person. Raises as `register.confirm_members` and `find_entry`."""
    return _changed(settings, entries, lambda people, keys: register.confirm_members(people, who, keys, by=judge(by)))


def reject(settings: Settings, who: str, entries: Sequence[str], *, by: str | None) -> PersonChange:
    """Say that entries don't show a person. Raises as `register.reject_members` and `find_entry`."""
    return _changed(settings, entries, lambda people, keys: register.reject_members(people, who, keys, by=judge(by)))


def _changed(
    settings: Settings, entries: Sequence[str], change: Callable[[People, list[EntryKey]], int]
) -> PersonChange:
    store = gallery_store_to_write(settings)
    with store.open() as gallery:
        keys = [entry.key for entry in gallery.entries([find_entry(gallery, one) for one in entries]).values()]
        with open_people(store.folder, write=True) as people:
            person = change(people, keys)
            return PersonChange(gallery=store.folder, person=person_in(gallery, people, str(person))[0])
