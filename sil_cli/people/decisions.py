"""What somebody says of the people of a gallery: `sil people name`, `merge`, `split`, `confirm` and `reject`.

`by` is who says so; None: whoever is logged in.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sil_cli.errors import quoted, visible
from sil_cli.gallery.stores import gallery_store_to_write
from sil_cli.people import register
from sil_cli.people.overview import PersonSummary, person_in
from sil_cli.people.telling import ListedVerdict, changing_people, find_entry, find_keys, judge, list_verdict
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sil_cli.gallery.entry import EntryKey
    from sil_cli.gallery.people import People, Verdict
    from sil_cli.settings import Settings


class PersonChange(Result):
    """What a person has become.

    Attributes:
        person: As they are now.
        against: Verdicts that say otherwise and still count: of two entries of one person that they are two, or of one
            that was split off or rejected that it shows the same person. The next `sil people find` keeps to them.
    """

    gallery: Path
    person: PersonSummary
    against: list[ListedVerdict]

    @property
    def label(self) -> str:
        """What the person is called."""
        return self.person.name or f"Person {self.person.id}"

    @property
    def objections(self) -> list[str]:
        """What stands against it, and what to do about that, a line each."""
        return [_objection(one) for one in self.against]


def _objection(one: ListedVerdict) -> str:
    who = visible(one.by) or "Somebody"
    said = "different people" if one.answer == "different" else "one person"
    then = "lets one of them go, unless both are confirmed" if one.answer == "different" else "puts them together again"
    names = [str(each.id) if each.id is not None else quoted(each.path) for each in (one.first, one.second)]
    return (
        f"{who} said that {names[0]} and {names[1]} are {said}, so the next `sil people find` {then}. "
        f"If that is wrong: sil people verdict {names[0]} {names[1]} withdrawn --by {quoted(one.by)}"
    )


def name(settings: Settings, who: str, name: str) -> PersonChange:
    """Give a person a name; '' takes it back. Raises as `register.name_person`."""
    return _changed(settings, "name", who, lambda people, _: register.name_person(people, who, name))


def merge(settings: Settings, who: str, others: Sequence[str], *, by: str | None) -> PersonChange:
    """Make some people one. Raises as `register.merge_people`."""
    by = judge(by)

    def change(people: People, _: list[EntryKey]) -> int:
        return register.merge_people(people, who, others, by=by)

    return _changed(settings, "merge", who, change, others=others, by=by)


def split(settings: Settings, who: str, entries: Sequence[str], *, by: str | None) -> PersonChange:
    """Make a new person of some of a person's entries. Raises as `register.split_person` and `find_entry`."""
    return _judged(settings, "split", who, register.split_person, entries, judge(by))


def confirm(settings: Settings, who: str, entries: Sequence[str], *, by: str | None) -> PersonChange:
    """Say that entries show a person. Raises as `register.confirm_members` and `find_entry`."""
    return _judged(settings, "confirm", who, register.confirm_members, entries, judge(by))


def reject(settings: Settings, who: str, entries: Sequence[str], *, by: str | None) -> PersonChange:
    """Say that entries don't show a person. Raises as `register.reject_members` and `find_entry`."""
    return _judged(settings, "reject", who, register.reject_members, entries, judge(by))


class _Judgement(Protocol):
    def __call__(self, people: People, who: str, keys: Sequence[EntryKey], /, *, by: str) -> int: ...


def _judged(
    settings: Settings, did: str, who: str, judgement: _Judgement, entries: Sequence[str], by: str
) -> PersonChange:
    return _changed(settings, did, who, lambda people, keys: judgement(people, who, keys, by=by), entries, by=by)


def _changed(
    settings: Settings,
    did: str,
    who: str,
    change: Callable[[People, list[EntryKey]], int],
    entries: Sequence[str] = (),
    *,
    others: Sequence[str] = (),
    by: str | None = None,
) -> PersonChange:
    store = gallery_store_to_write(settings)
    with store.open() as gallery:
        ids = [find_entry(gallery, one) for one in entries]
        keys = [entry.key for entry in gallery.entries(ids).values()]
        details: dict[str, object] = {"did": did}
        with changing_people(settings, store.folder, "people", details) as people:
            known = register.read_register(people)
            details |= {"person": known.find(who), "others": [known.find(one) for one in others], "entries": ids}
            details["judge"] = by
            before = _against(people)
            person = change(people, keys)
            against = sorted(_against(people) - before, key=lambda one: one.at)
            summary = person_in(gallery, people, str(person))[0]
        found = find_keys(gallery, {key for one in against for key in one.pair})
        listed = [list_verdict(one, found, counts=True) for one in against]
        return PersonChange(gallery=store.folder, person=summary, against=listed)


def _against(people: People) -> set[Verdict]:
    """Verdicts that count and say otherwise than who is whose member."""
    all_people = register.read_register(people)
    person_of = all_people.person_of()
    gone = {(key, person) for person, keys in all_people.rejected.items() for key in keys}
    against = set()
    for one in people.standing():
        first, second = (person_of.get(key) for key in one.pair)
        parted = (one.first, second) in gone or (one.second, first) in gone
        if (one.answer == "different" and first is not None and first == second) or (one.answer == "same" and parted):
            against.add(one)
    return against
