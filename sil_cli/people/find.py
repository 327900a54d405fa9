"""`sil people find`: group a gallery's entries into people, and keep to whatever was decided of them before.

New entries join people who are there, or found new ones. `again` groups everything anew but what somebody decided;
whoever has a name, a confirmed or a rejected member stays, and others keep their number where most of their entries
stay together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.evaluation.calibration import read_calibration
from sil_cli.gallery.accountability.log import log_event
from sil_cli.gallery.entry import TRACKLET_END, instant_of, stored_time
from sil_cli.gallery.interface import MODEL_FOLDER
from sil_cli.gallery.people import Membership, open_people
from sil_cli.gallery.stores import gallery_store_to_write
from sil_cli.people.constraints import Sighting, as_matrix, find_apart
from sil_cli.people.deciding import decide
from sil_cli.people.grouping import group_entries
from sil_cli.people.links import LikenessByChance, find_links, learn_likeness, no_links
from sil_cli.people.metrics import GroupingScores, score_grouping
from sil_cli.people.register import put_together, read_register
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import EntryKey, GalleryEntry
    from sil_cli.gallery.interface import Gallery
    from sil_cli.gallery.people import People
    from sil_cli.people.deciding import Decided
    from sil_cli.people.grouping import Grouping
    from sil_cli.people.register import Register
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

_ATTEMPTS = 3  # of grouping while others decide something; the last one makes them wait
_AT_ONCE = 8_192  # vectors read


class FindResult(Result):
    """The outcome of `sil people find`.

    Attributes:
        entries: In the gallery.
        people: Who they show; `alone`: those of them with one entry.
        founded: People who are new.
        joined: Entries that joined people who were there before.
        likeness: What links were weighed by: `chance`: what comes up by chance among the gallery's own entries;
            `thresholds`: those that the model's calibration measured; None: nothing says, and only what was told
            counts.
        apart: Pairs of entries that can't show one person, by frames and times.
        doubted: Cameras from whose times nothing was concluded, with the reason.
        contradictions: Verdicts that can't all be right; `sil people verdicts` names them.
        scores: How the grouping agrees with identities, where entries have one.
    """

    gallery: Path
    entries: int
    people: int
    alone: int
    founded: int
    joined: int
    likeness: Literal["chance", "thresholds"] | None
    apart: int
    doubted: dict[str, str]
    contradictions: int
    scores: GroupingScores | None


@dataclass(frozen=True)
class _Content:
    """What a gallery holds, in the order of ids: rows of everything else."""

    keys: list[EntryKey]
    entries: list[GalleryEntry]
    vectors: NDArray[np.float32]

    @property
    def cameras(self) -> NDArray[np.str_]:
        """(N,) with their networks; "" where unknown."""
        return np.array(
            ["" if one.camera is None else f"{one.domain or ''}\0{one.camera}" for one in self.entries], dtype=np.str_
        )

    @property
    def instants(self) -> NDArray[np.float64]:
        """(N,) seconds; NaN where unknown."""
        return np.array([np.nan if one.time is None else instant_of(one.time) for one in self.entries])


def find_people(settings: Settings, reporter: Reporter) -> FindResult:
    """Group the entries of a gallery into people, and keep that beside it.

    Raises:
        GalleryError: There is no gallery, or it or its file of people is damaged.
    """
    wanted = settings.people
    store = gallery_store_to_write(settings)
    with store.open() as gallery:
        fingerprint = str(gallery.model["fingerprint"])
        content = _read(gallery, reporter)
    thresholds = _thresholds(store.folder / MODEL_FOLDER, fingerprint)
    likeness = learn_likeness(content.vectors, content.cameras, content.instants, thresholds, reporter)
    links = no_links(len(content.keys)) if likeness is None else find_links(likeness, reporter)
    apart = find_apart(
        [_sighting(one) for one in content.entries], links, overlap=wanted.overlap, at_once=wanted.at_once
    )

    def grouped(people: People) -> tuple[_Told, _Plan, Grouping]:
        told = _read_told(people)
        plan = _make_plan(told, content.keys, again=wanted.again or told.grouped_by not in (None, fingerprint))
        matrix = as_matrix(len(content.keys), [apart.pairs, plan.apart])
        return told, plan, group_entries(links, plan.seeds, matrix, reporter, threshold=wanted.threshold)

    with open_people(store.folder, write=True) as people:
        for attempt in range(1, _ATTEMPTS + 1):
            told, plan, grouping = grouped(people)
            with people.transaction():
                if told != _read_told(people):  # somebody decided something meanwhile
                    if attempt < _ATTEMPTS:
                        continue
                    told, plan, grouping = grouped(people)  # others wait
                founded, joined = _write(people, told.register, plan, content.keys, grouping)
                people.note_grouping(fingerprint)
                log_event(settings, store.folder, "people", {"did": "find", "founded": founded, "joined": joined})
            break
    sizes = np.bincount(grouping.groups)
    return FindResult(
        gallery=store.folder,
        entries=len(content.keys),
        people=len(sizes),
        alone=int((sizes == 1).sum()),
        founded=founded,
        joined=joined,
        likeness=None if likeness is None else "chance" if isinstance(likeness, LikenessByChance) else "thresholds",
        apart=len(apart.pairs),
        doubted=dict(apart.doubted),
        contradictions=len(told.decided.contradictions),
        scores=_scores(content.entries, grouping),
    )


def _read(gallery: Gallery, reporter: Reporter) -> _Content:
    ids = gallery.ids().tolist()
    entries: list[GalleryEntry] = []
    vectors = np.empty((len(ids), gallery.dimension), dtype=np.float32)
    with reporter.task("Reading the gallery", len(ids), "entries") as task:
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            known = gallery.entries(some)
            entries += [known[one] for one in some]
            vectors[start : start + len(some)] = gallery.vectors(some)
            task.advance(len(some))
    return _Content([one.key for one in entries], entries, vectors)


def _thresholds(model: Path, fingerprint: str) -> Mapping[str, float] | None:
    """Scores by false accept rate, where the model in a gallery was calibrated."""
    calibration = read_calibration(model)
    if calibration is None or calibration.fingerprint != fingerprint:
        return None
    return calibration.thresholds


def _sighting(entry: GalleryEntry) -> Sighting:
    start = np.nan if entry.time is None else instant_of(entry.time)
    try:
        end = instant_of(stored_time(entry.metadata[TRACKLET_END]))
    except (KeyError, ValueError):
        end = start
    camera = None if entry.camera is None else (entry.domain or "", entry.camera)
    return Sighting((entry.source, entry.path), entry.box, camera, start, max(start, end))


@dataclass(frozen=True)
class _Told:
    """All that was decided before, by people or by an earlier run."""

    register: Register
    decided: Decided
    grouped_by: str | None


def _read_told(people: People) -> _Told:
    return _Told(read_register(people), decide(people.standing()), people.grouped_by())


@dataclass(frozen=True)
class _Plan:
    """What a grouping must keep to.

    Attributes:
        seeds: (N,) as of `group_entries`.
        apart: (P, 2) rows that were said to be of two people.
        people: Of each seed the people that it holds, the one who stays first.
    """

    seeds: NDArray[np.int64]
    apart: NDArray[np.int64]
    people: list[list[int]]


def _make_plan(told: _Told, keys: Sequence[EntryKey], *, again: bool) -> _Plan:
    """What a grouping must keep to: the people of before, what was said of pairs, and who isn't a member."""
    rows = {key: row for row, key in enumerate(keys)}
    register, decided = told.register, told.decided
    seeded = {person: _seed(register, person, rows, again=again) for person in register.names}
    _release(register, decided, seeded)
    together = _Together()
    for person, members in seeded.items():
        for key in members:
            together.join(("person", person), key)
    for group in decided.people:
        for one, other in pairwise(group):
            together.join(one, other)
    number_of: dict[object, int] = {}
    seeds = np.full(len(keys), -1, dtype=np.int64)
    for row, key in enumerate(keys):
        if key in together:
            seeds[row] = number_of.setdefault(together.root(key), len(number_of))
    people: list[list[int]] = [[] for _ in number_of]
    for person, members in seeded.items():
        if members:
            people[number_of[together.root(("person", person))]].append(person)
    for some in people:
        some.sort(key=lambda person: (not register.names[person], not register.is_kept(person), person))
    pairs = [(rows[one], rows[other]) for one, other in decided.apart if one in rows and other in rows]
    for person, rejected in register.rejected.items():
        anchor = next(iter(seeded[person]), None)
        pairs += [(rows[key], rows[anchor]) for key in rejected if key in rows and anchor is not None]
    return _Plan(seeds, np.array(pairs, dtype=np.int64).reshape(-1, 2), people)


def _seed(register: Register, person: int, rows: Mapping[EntryKey, int], *, again: bool) -> list[EntryKey]:
    """The entries that stay with a person: all; anew: the confirmed, or one where somebody decided anything."""
    there = [key for key in register.members[person] if key in rows]
    if not again:
        return there
    confirmed = [key for key in there if register.members[person][key].state == "confirmed"]
    if confirmed or not register.is_kept(person):
        return confirmed
    best = register.best(person, among=there)
    return [] if best is None else [best]


def _release(register: Register, decided: Decided, seeded: dict[int, list[EntryKey]]) -> None:
    """Let go of entries that were found for a person, and were since told apart from another of their entries."""
    person_of = {key: person for person, members in seeded.items() for key in members}
    told = {key for group in decided.people for key in group}
    for one, other in sorted(decided.apart, key=str):
        person = person_of.get(one)
        if person is None or person != person_of.get(other):
            continue
        members = register.members[person]
        found = [members[key] for key in (one, other) if members[key].state == "found"]
        if found:
            least = min(found, key=lambda member: (member.key in told, member.confidence, str(member.key))).key
            seeded[person].remove(least)
            del person_of[least]


class _Together:
    """Things that belong together, by union and find."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def __contains__(self, thing: object) -> bool:
        return thing in self._parent

    def root(self, thing: object) -> object:
        """What stands for all that belongs together with a thing."""
        self._parent.setdefault(thing, thing)
        while (parent := self._parent[thing]) != thing:
            self._parent[thing] = thing = self._parent[parent]
        return thing

    def join(self, one: object, other: object) -> None:
        """Say that two belong together."""
        self._parent[self.root(other)] = self.root(one)


def _write(
    people: People, register: Register, plan: _Plan, keys: Sequence[EntryKey], grouping: Grouping
) -> tuple[int, int]:
    """Keep a grouping (within a transaction); returns how many people are new, and entries that joined others."""
    known = register.person_of()
    person_of_group, merged = _people_of_groups(register, plan, keys, grouping.groups)
    for kept, gone in merged:
        put_together(people, read_register(people), kept, gone)
    if merged:
        register = read_register(people)
    founded = 0
    wanted: dict[EntryKey, Membership] = {}
    joined = 0
    for key, group, confidence in zip(keys, grouping.groups.tolist(), grouping.confidence.tolist(), strict=True):
        if group not in person_of_group:
            person_of_group[group] = people.add_person()
            founded += 1
        person = person_of_group[group]
        before = register.members.get(person, {}).get(key)
        is_sure = before is not None and before.state == "confirmed"
        wanted[key] = (
            Membership(key, person, "confirmed", 1.0) if is_sure else Membership(key, person, "found", confidence)
        )
        joined += person in register.names and key not in known
    existing = {key: one for members in register.members.values() for key, one in members.items() if key in wanted}
    people.drop_members([one for key, one in existing.items() if wanted[key].person != one.person])
    people.put_members([one for key, one in wanted.items() if existing.get(key) != one])
    left = set(person_of_group.values())
    people.delete_people(person for person in register.names if person not in left and not register.is_kept(person))
    return founded, joined


def _people_of_groups(
    register: Register, plan: _Plan, keys: Sequence[EntryKey], groups: NDArray[np.int64]
) -> tuple[dict[int, int], list[tuple[int, int]]]:
    """Who each group is, where that is known, and people who turned out to be one.

    A group that holds a seed is the person of that seed; another one the person most of whose entries it has, if that
    one isn't held by a seed.
    """
    person_of_group: dict[int, int] = {}
    merged: list[tuple[int, int]] = []
    for group, seed in set(zip(groups.tolist(), plan.seeds.tolist(), strict=True)):
        if seed >= 0 and plan.people[seed]:
            kept, *gone = plan.people[seed]
            person_of_group[group] = kept
            merged += [(kept, other) for other in gone]
    taken = {person for some in plan.people for person in some}
    before = register.person_of()
    shared = Counter(
        (group, before[key])
        for key, group in zip(keys, groups.tolist(), strict=True)
        if key in before and before[key] not in taken and group not in person_of_group
    )
    for (group, person), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0])):
        if group not in person_of_group and person not in taken:
            person_of_group[group] = person
            taken.add(person)
    return person_of_group, merged


def _scores(entries: Sequence[GalleryEntry], grouping: Grouping) -> GroupingScores | None:
    """How a grouping agrees with the identities of those entries that have one."""
    known = [row for row, one in enumerate(entries) if one.identity is not None]
    return score_grouping(
        [int(grouping.groups[row]) for row in known], [(entries[row].domain, entries[row].identity) for row in known]
    )
