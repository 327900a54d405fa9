"""What verdicts come to: who is the same person, who is another, and where they contradict each other."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sil_cli.gallery.people import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sil_cli.gallery.entry import EntryKey
    from sil_cli.gallery.people import Pair, Verdict


@dataclass(frozen=True)
class Contradiction:
    """Two entries that are said to be two people, and by a chain of other verdicts to be one.

    Attributes:
        different: The verdicts that keep them apart.
        same: Those that join them, in the order of the chain; of the very pair, where people disagree on it.
    """

    different: tuple[Verdict, ...]
    same: tuple[Verdict, ...]


@dataclass(frozen=True)
class Decided:
    """What verdicts come to.

    Attributes:
        people: The entries of each person that verdicts join, two at least, without those of `torn`; largest first.
        torn: Likewise, of those in whom verdicts contradict each other.
        apart: The pairs that are two people, without those that some verdict calls one.
        contradictions: Why people are torn.
    """

    people: list[list[EntryKey]]
    torn: list[list[EntryKey]]
    apart: set[Pair]
    contradictions: list[Contradiction]


def decide(standing: Iterable[Verdict]) -> Decided:
    """Join the entries that verdicts call one person, and look for those that can't all be right.

    `same` is taken to be transitive, as constraints are in clustering (must-link and cannot-link of Wagstaff et al.,
    Constrained K-means Clustering with Background Knowledge, ICML 2001, section 3).

    Args:
        standing: The verdicts that count (`People.standing`); `unsure` decides nothing.
    """
    same: defaultdict[Pair, list[Verdict]] = defaultdict(list)
    different: defaultdict[Pair, list[Verdict]] = defaultdict(list)
    for one in standing:
        if one.answer in ("same", "different"):
            (same if one.answer == "same" else different)[one.pair].append(one)
    neighbours: defaultdict[EntryKey, list[EntryKey]] = defaultdict(list)
    for first, second in same:
        neighbours[first].append(second)
        neighbours[second].append(first)
    groups = _components(neighbours)
    group_of = {key: number for number, group in enumerate(groups) for key in group}
    contradictions: list[Contradiction] = []
    torn: set[int] = set()
    for (first, second), verdicts in different.items():
        number = group_of.get(first)
        if number is not None and number == group_of.get(second):
            torn.add(number)
            chain = _chain(neighbours, first, second)
            joining = [verdict for pair in chain for verdict in same[pair]]
            contradictions.append(Contradiction(tuple(verdicts), tuple(joining)))
    by_size = sorted(range(len(groups)), key=lambda number: -len(groups[number]))
    return Decided(
        people=[groups[number] for number in by_size if number not in torn],
        torn=[groups[number] for number in by_size if number in torn],
        apart={pair for pair in different if group_of.get(pair[0], -1) != group_of.get(pair[1], -2)},
        contradictions=contradictions,
    )


def join(groups: Iterable[Sequence[EntryKey]]) -> list[list[EntryKey]]:
    """Groups without those that share an entry: they become one."""
    neighbours: defaultdict[EntryKey, list[EntryKey]] = defaultdict(list)
    for group in groups:
        for first, second in zip(group, [*group[1:], *group[:1]], strict=True):
            neighbours[first].append(second)
            neighbours[second].append(first)
    return _components(neighbours)


def _components(neighbours: Mapping[EntryKey, Sequence[EntryKey]]) -> list[list[EntryKey]]:
    seen: set[EntryKey] = set()
    groups = []
    for start in neighbours:
        if start not in seen:
            group = list(_reached(neighbours, start))
            seen.update(group)
            groups.append(group)
    return groups


def _chain(neighbours: Mapping[EntryKey, Sequence[EntryKey]], first: EntryKey, last: EntryKey) -> list[Pair]:
    """The pairs of a shortest chain from one entry to another, which it is joined to."""
    before = _reached(neighbours, first)
    chain: list[Pair] = []
    while (came_from := before[last]) is not None:
        chain.append(in_order(came_from, last))
        last = came_from
    return chain[::-1]


def _reached(neighbours: Mapping[EntryKey, Sequence[EntryKey]], start: EntryKey) -> dict[EntryKey, EntryKey | None]:
    """All that is joined to an entry, nearest first, each with the one before it on the way there."""
    before: dict[EntryKey, EntryKey | None] = {start: None}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for one in neighbours[here]:
            if one not in before:
                before[one] = here
                waiting.append(one)
    return before
