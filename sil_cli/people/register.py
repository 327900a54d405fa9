"""The people of a gallery, and what users decide of them: names, merges, splits, who is a member and who isn't.

What somebody decides is kept twice: as it concerns people (a name, a confirmed or rejected member) and as verdicts on
pairs of entries, which outlive people. `find` keeps to both.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError, did_you_mean, visible
from sil_cli.gallery.people import LONGEST_NAME, Membership, Verdict, require_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sil_cli.gallery.entry import EntryKey
    from sil_cli.gallery.people import Answer, People


@dataclass(frozen=True)
class Register:
    """All people as they are at one moment.

    Attributes:
        names: By number, ascending; '' for none.
        members: Of each person the entries that show them, by key.
        rejected: Of each person the entries that somebody said don't show them.
    """

    names: Mapping[int, str]
    members: Mapping[int, Mapping[EntryKey, Membership]]
    rejected: Mapping[int, frozenset[EntryKey]]

    def label(self, person: int) -> str:
        """What a person is called: their name, or `person 3`."""
        return self.names.get(person) or f"person {person}"

    def person_of(self) -> dict[EntryKey, int]:
        """Whom each entry shows."""
        return {key: person for person, members in self.members.items() for key in members}

    def is_kept(self, person: int) -> bool:
        """Whether somebody decided something of a person, so that no later run may dissolve them."""
        members = self.members[person].values()
        return bool(self.names[person] or self.rejected[person]) or any(one.state == "confirmed" for one in members)

    def best(self, person: int, *, among: Iterable[EntryKey] | None = None) -> EntryKey | None:
        """The entry that shows a person most surely, of some or all of their members; None where there is none."""
        members = self.members[person]
        some = [members[key] for key in (members if among is None else among) if key in members]
        return max(some, key=_certainty).key if some else None

    def find(self, who: str) -> int:
        """The person of a number, or of a name.

        Raises:
            UsageError: There is no such person.
        """
        if who.isascii() and who.isdigit() and int(who) in self.names:
            return int(who)
        named = [person for person, name in self.names.items() if name == who]
        if named:
            return named[0]
        known = [name for name in self.names.values() if name]
        advice = (
            did_you_mean(who, known) if known else "`sil people list` shows all of them; `sil people find` finds them."
        )
        raise UsageError(f"There is no person '{visible(who[:LONGEST_NAME])}'.", advice)


def _certainty(member: Membership) -> tuple[bool, float, str]:
    return member.state == "confirmed", member.confidence, str(member.key)


def read_register(people: People) -> Register:
    """All people of an open file."""
    names = people.names()
    members: dict[int, dict[EntryKey, Membership]] = {person: {} for person in names}
    rejected: defaultdict[int, set[EntryKey]] = defaultdict(set)
    for one in people.members():
        if one.state == "rejected":
            rejected[one.person].add(one.key)
        else:
            members[one.person][one.key] = one
    return Register(names, members, {person: frozenset(rejected[person]) for person in names})


def name_person(people: People, who: str, name: str) -> int:
    """Give a person a name, or take it back by ''.

    Returns:
        Their number.

    Raises:
        UsageError: There is no such person, the name can't be one, or it is somebody else's.
    """
    name = " ".join(name.split(" ")).strip()
    require_text("A person's name", name, LONGEST_NAME)
    if visible(name) != name:
        raise UsageError(
            f"A person can't be named '{visible(name)}'.", "Use a name of one line, without control characters."
        )
    if name.isascii() and name.isdigit():
        raise UsageError(f"A person can't be named '{name}': that is a number.", "Use a name with a letter in it.")
    with people.transaction():
        register = read_register(people)
        person = register.find(who)
        others = [one for one, known in register.names.items() if name and known == name and one != person]
        if others:
            raise UsageError(
                f"Person {others[0]} is already named '{name}'.",
                f"If they are one: `sil people merge {others[0]} {person}`.",
            )
        people.rename_person(person, name)
    return person


def merge_people(people: People, into: str, others: Sequence[str], *, by: str = "") -> int:
    """Say that some people are one: all become members of the first.

    What was confirmed stays confirmed, also where the same entry was once rejected by the other. A name is kept; of two
    the first's.

    Returns:
        The number of the person that is left.

    Raises:
        UsageError: There is no such person, or only one is named.
    """
    with people.transaction():
        register = read_register(people)
        kept = register.find(into)
        gone = [one for one in dict.fromkeys(map(register.find, others)) if one != kept]
        if not gone:
            raise UsageError(f"{register.label(kept)} can't be merged with themselves.", "Name two people.")
        verdicts: list[Verdict] = []
        for other in gone:
            register = read_register(people)
            verdicts += _withdrawals(people, register.members[kept], register.members[other], by)
            best, of_other = register.best(kept), register.best(other)
            if best is not None and of_other is not None:
                verdicts.append(_verdict(best, of_other, "same", by, "merge"))
            put_together(people, register, kept, other)
        people.add_verdicts(verdicts)
    return kept


def put_together(people: People, register: Register, kept: int, gone: int) -> None:
    """Make all of a person's members those of another, and delete the one (within a transaction)."""
    members = {**register.members[gone], **register.members[kept]}
    members |= {key: one for key, one in register.members[gone].items() if one.state == "confirmed"}
    rejected = register.rejected[kept] | register.rejected[gone]
    sure = {key for key, one in members.items() if one.state == "confirmed"}
    name = register.names[kept] or register.names[gone]
    people.delete_people([gone])
    people.drop_members([Membership(key, kept, "rejected", 0.0) for key in rejected | members.keys()])
    people.put_members(
        [Membership(key, kept, "rejected", 0.0) for key in rejected - sure]
        + [
            Membership(key, kept, one.state, one.confidence)
            for key, one in members.items()
            if key not in rejected - sure
        ]
    )
    people.rename_person(kept, name)


def split_person(people: People, who: str, keys: Sequence[EntryKey], *, by: str = "") -> int:
    """Say that some of a person's members show somebody else, all of them the same.

    Returns:
        The number of the new person.

    Raises:
        UsageError: There is no such person, an entry is none of theirs, or none would be left.
    """
    with people.transaction():
        register = read_register(people)
        person = register.find(who)
        members = register.members[person]
        _require_members(register, person, keys)
        rest = [key for key in members if key not in set(keys)]
        if not rest:
            raise UsageError(
                f"All entries of {register.label(person)} were named, which would leave nobody.",
                "Name those of somebody else.",
            )
        other = people.add_person()
        people.drop_members([members[key] for key in keys])
        people.put_members(
            [Membership(key, person, "rejected", 0.0) for key in keys]
            + [Membership(key, other, "confirmed", 1.0) for key in keys]
        )
        best = register.best(person, among=rest)
        verdicts = _withdrawals(people, dict.fromkeys(keys), dict.fromkeys(rest), by, answer="same")
        if best is not None:
            verdicts.append(_verdict(keys[0], best, "different", by, "split"))
        people.add_verdicts([*verdicts, *_star(keys[0], keys[1:], by, "split")])
    return other


def confirm_members(people: People, who: str, keys: Sequence[EntryKey], *, by: str = "") -> int:
    """Say that entries show a person: those named, or all that are theirs now.

    Returns:
        Their number.

    Raises:
        UsageError: There is no such person, or nothing to confirm.
    """
    with people.transaction():
        register = read_register(people)
        person = register.find(who)
        chosen = list(dict.fromkeys(keys)) or list(register.members[person])
        if not chosen:
            raise UsageError(f"{register.label(person)} has no entries.", "Name the entries that show them.")
        elsewhere = register.person_of()
        best = register.best(person, among=[key for key in register.members[person] if key not in set(keys)])
        anchor = best if best is not None else chosen[0]
        people.drop_members(
            [Membership(key, elsewhere[key], "found", 0.0) for key in chosen if elsewhere.get(key, person) != person]
        )
        people.put_members([Membership(key, person, "confirmed", 1.0) for key in chosen])
        people.add_verdicts(_star(anchor, chosen, by, "confirm"))
    return person


def reject_members(people: People, who: str, keys: Sequence[EntryKey], *, by: str = "") -> int:
    """Say that entries don't show a person; whom they show instead is found by the next `sil people find`.

    Returns:
        Their number.

    Raises:
        UsageError: There is no such person, or no entry is named.
    """
    chosen = list(dict.fromkeys(keys))
    if not chosen:
        raise UsageError("No entry was named.", "Name the entries that don't show the person.")
    with people.transaction():
        register = read_register(people)
        person = register.find(who)
        rest = [key for key in register.members[person] if key not in set(chosen)]
        best = register.best(person, among=rest)
        people.put_members([Membership(key, person, "rejected", 0.0) for key in chosen])
        verdicts = _withdrawals(people, dict.fromkeys(chosen), dict.fromkeys(rest), by, answer="same")
        if best is not None:
            verdicts += [_verdict(key, best, "different", by, "reject") for key in chosen]
        people.add_verdicts(verdicts)
    return person


def _require_members(register: Register, person: int, keys: Sequence[EntryKey]) -> None:
    strange = [key for key in keys if key not in register.members[person]]
    if strange or not keys:
        what = f"'{strange[0][1]}' is no entry of {register.label(person)}" if strange else "No entry was named"
        raise UsageError(f"{what}.", f"`sil people show {person}` lists theirs.")


def _verdict(first: EntryKey, second: EntryKey, answer: Answer, by: str, origin: str) -> Verdict:
    return Verdict(first, second, answer, by, datetime.now(UTC), origin=origin)


def _star(anchor: EntryKey, keys: Iterable[EntryKey], by: str, origin: str) -> list[Verdict]:
    """That entries show the same person as one of them does."""
    return [_verdict(anchor, key, "same", by, origin) for key in keys if key != anchor]


def _withdrawals(
    people: People, some: Iterable[EntryKey], others: Iterable[EntryKey], by: str, *, answer: Answer = "different"
) -> list[Verdict]:
    """Take back what the same judge said earlier of pairs between some entries and others, where it was this."""
    here, there = set(some), set(others)
    return [
        _verdict(one.first, one.second, "withdrawn", by, "withdrawn")
        for one in people.standing()
        if one.answer == answer
        and one.by == by
        and ((one.first in here and one.second in there) or (one.first in there and one.second in here))
    ]
