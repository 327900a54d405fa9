"""Grouping entries into people by the links between them, and by what people said.

Average linkage over weighed links: two groups are joined while the mean weight of all links that they could have is
highest and above a threshold γ, a missing link weighing nothing. Then single entries move to where they fit better, as
in the first phase of Leiden (Traag, Waltman, van Eck, "From Louvain to Leiden", Scientific Reports, 2019), the sum
over groups of link weights less γ for each pair being what both make large (the constant Potts model). Neither needs
the number of people.

Two entries that were said to show one person begin in one group, and groups with entries that can't show one person are
never joined.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from sil_cli.people.links import Links
    from sil_cli.runtime import Reporter

THRESHOLD = 0.5
"""γ: the mean weight of links above which two groups are joined; chosen on generated networks (docs/people.md)."""

_ROUNDS = 10  # of moving single entries; few move in the third
_STEP = 1_000  # entries between two signs of progress


@dataclass(frozen=True)
class Grouping:
    """Entries in groups.

    Attributes:
        groups: (N,) the number of each entry's group, from 0 on without gaps, in the order of their first entries.
        confidence: (N,) in 0..1: of the other entries in its group, the share that is expected to show the same person
            as this one. 1 for an entry on its own.
    """

    groups: NDArray[np.int64]
    confidence: NDArray[np.float64]


def group_entries(
    links: Links,
    seeds: NDArray[np.int64],
    apart: sparse.csr_matrix,
    reporter: Reporter,
    *,
    threshold: float = THRESHOLD,
) -> Grouping:
    """Group entries into people.

    Args:
        links: Between N entries.
        seeds: (N,) entries of one number ≥ 0 stay together, those of two numbers apart; −1 for all others.
        apart: (N, N) symmetric, true where two entries can't show one person.
        reporter: Hears of the progress.
        threshold: γ.
    """
    with reporter.task("Grouping", links.count, "entries") as task:
        state = _Groups(links, seeds, apart, threshold)
        left = links.count
        for merges, _ in enumerate(state.join(), start=1):
            if merges % _STEP == 0:
                left -= _STEP
                task.advance(_STEP)
        state.improve()
        task.advance(left)
    groups = state.entry_groups()
    return Grouping(groups, confidences(links, groups))


class _Groups:
    """Nodes, which are entries or those of one seed, and the groups that they are in."""

    def __init__(self, links: Links, seeds: NDArray[np.int64], apart: sparse.csr_matrix, threshold: float) -> None:
        self._threshold = threshold
        self._most = links.most
        self._apart = apart
        self._node_of = _nodes(seeds)
        count = int(self._node_of.max(initial=-1)) + 1
        self._entries: list[list[int]] = [[] for _ in range(count)]  # of each node
        for entry, node in enumerate(self._node_of.tolist()):
            self._entries[node].append(entry)
        self._seeded = [bool(seeds[entries[0]] >= 0) for entries in self._entries]
        cut = np.bincount(self._node_of, weights=links.cut, minlength=count)
        self._node_cut = cut.astype(int).tolist()  # entries of each node whose links may be more
        self._cut = list(self._node_cut)
        self._size = [len(entries) for entries in self._entries]
        self._near: list[dict[int, float]] = [{} for _ in range(count)]  # sums of weights between groups
        for one, other, weight in _between_nodes(links, self._node_of, count):
            self._near[one][other] = self._near[other][one] = weight
        self._node_links = [dict(each) for each in self._near]
        self._members: list[list[int]] = [[node] for node in range(count)]
        self._group = list(range(count))  # of each node
        self._has_seed = list(self._seeded)
        self._group_of_entry = self._node_of.copy()

    def entry_groups(self) -> NDArray[np.int64]:
        """The group of each entry, numbered by first appearance."""
        groups = np.array(self._group, dtype=np.int64)[self._node_of] if len(self._node_of) else self._node_of
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        order = np.argsort(np.argsort(first))
        numbered: NDArray[np.int64] = order[inverse].astype(np.int64)
        return numbered

    def join(self) -> Iterable[None]:
        """Join groups until none are alike enough, once for each item."""
        heap = [
            (-self._mean(one, other), one, other)
            for one, near in enumerate(self._near)
            for other in near
            if one < other
        ]
        heap = [each for each in heap if -each[0] > self._threshold]
        heapq.heapify(heap)
        while heap:
            score, one, other = heapq.heappop(heap)
            if other not in self._near[one]:
                continue  # one of them was joined with a third meanwhile
            mean = self._mean(one, other)
            if mean < -score - 1e-9:
                if mean > self._threshold:
                    heapq.heappush(heap, (-mean, one, other))
                continue
            if self._are_apart(one, other):
                del self._near[one][other], self._near[other][one]
                continue
            kept, gone = (one, other) if len(self._near[one]) >= len(self._near[other]) else (other, one)
            for third in self._join(kept, gone):
                mean = self._mean(kept, third)
                if mean > self._threshold:
                    heapq.heappush(heap, (-mean, min(kept, third), max(kept, third)))
            yield

    def _join(self, kept: int, gone: int) -> list[int]:
        """Put a group into another; returns the groups that are linked to it by more than before."""
        near = self._near[kept]
        moved = self._near[gone]
        del near[gone], moved[kept]
        for third, weight in moved.items():
            del self._near[third][gone]
            near[third] = self._near[third][kept] = near.get(third, 0.0) + weight
        self._near[gone] = {}
        self._size[kept] += self._size[gone]
        self._cut[kept] += self._cut[gone]
        self._has_seed[kept] |= self._has_seed[gone]
        for node in self._members[gone]:
            self._put(node, kept)
        self._members[kept] += self._members[gone]
        self._members[gone] = []
        return list(moved)

    def _put(self, node: int, group: int) -> None:
        self._group[node] = group
        self._group_of_entry[self._entries[node]] = group

    def _mean(self, one: int, other: int) -> float:
        possible = _possible(self._size[one], self._cut[one], self._size[other], self._cut[other], self._most)
        return self._near[one][other] / possible

    def _are_apart(self, one: int, other: int) -> bool:
        """Whether two groups hold entries that can't show one person."""
        if self._has_seed[one] and self._has_seed[other]:
            return True
        small, large = (one, other) if self._size[one] <= self._size[other] else (other, one)
        entries = [entry for node in self._members[small] for entry in self._entries[node]]
        return self._forbids(entries, large)

    def _forbids(self, entries: Sequence[int], group: int) -> bool:
        """Whether one of these entries can't be in a group."""
        starts, ends = self._apart.indptr[entries], self._apart.indptr[np.asarray(entries) + 1]
        return any(
            bool((self._group_of_entry[self._apart.indices[start:end]] == group).any())
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
            if start < end
        )

    def improve(self) -> None:
        """Move single nodes to where they fit better, until none does."""
        nodes = [node for node, linked in enumerate(self._node_links) if linked and not self._seeded[node]]
        for round_ in range(_ROUNDS):
            order = np.random.default_rng(round_).permutation(len(nodes))
            if not sum(self._move(nodes[at]) for at in order.tolist()):
                break

    def _move(self, node: int) -> bool:
        """Move a node to the group where it makes the sum largest, or to one of its own; returns whether it moved."""
        own = self._group[node]
        weights: defaultdict[int, float] = defaultdict(float)
        for other, weight in self._node_links[node].items():
            weights[self._group[other]] += weight
        gains = {group: weight - self._price(node, group) for group, weight in weights.items()}
        stays = gains.pop(own, -self._price(node, own))
        entries = self._entries[node]
        for gain, group in sorted(((gain, -group) for group, gain in gains.items()), reverse=True):
            if gain <= max(stays + 1e-9, 0.0):
                break
            if not self._forbids(entries, -group):
                self._take(node, -group)
                return True
        if stays < -1e-9:
            self._take(node, self._new_group())
            return True
        return False

    def _price(self, node: int, group: int) -> float:
        """γ for each link that a node and a group without it can have."""
        size, cut = len(self._entries[node]), self._node_cut[node]
        inside = self._group[node] == group
        rest, rest_cut = self._size[group] - size * inside, self._cut[group] - cut * inside
        return self._threshold * _possible(size, cut, rest, rest_cut, self._most)

    def _new_group(self) -> int:
        self._members.append([])
        self._size.append(0)
        self._cut.append(0)
        return len(self._members) - 1

    def _take(self, node: int, group: int) -> None:
        own, size, cut = self._group[node], len(self._entries[node]), self._node_cut[node]
        self._size[own] -= size
        self._size[group] += size
        self._cut[own] -= cut
        self._cut[group] += cut
        self._members[own].remove(node)
        self._members[group].append(node)
        self._put(node, group)


def _possible(size: int, cut: int, other_size: int, other_cut: int, most: int) -> float:
    """How many links two groups can have: each pair; of an entry whose list is full, no more than that holds."""
    from_one = (size - cut) * other_size + cut * min(other_size, most)
    from_other = (other_size - other_cut) * size + other_cut * min(size, most)
    return max((from_one + from_other) / 2, 1.0)


def _nodes(seeds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The node of each entry: those of one seed share one; numbered by first appearance."""
    keys = np.where(seeds >= 0, seeds, seeds.max(initial=-1) + 1 + np.arange(len(seeds)))
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    numbered: NDArray[np.int64] = np.argsort(np.argsort(first))[inverse].astype(np.int64)
    return numbered


def _between_nodes(links: Links, node_of: NDArray[np.int64], count: int) -> Iterable[tuple[int, int, float]]:
    """The sums of weights between nodes, each pair once."""
    one, other = node_of[links.first], node_of[links.second]
    low, high = np.minimum(one, other), np.maximum(one, other)
    between = low != high
    summed = sparse.coo_matrix((links.weights[between], (low[between], high[between])), (count, count))
    summed.sum_duplicates()
    return zip(summed.row.tolist(), summed.col.tolist(), summed.data.tolist(), strict=True)


def confidences(links: Links, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """How sure it is that each entry belongs to its group, (N,); see `Grouping`.

    A link counts e₀ / (e₀ + E), which is 1/2 where it weighs nothing and nearly 1 where hardly any false match is
    expected; a pair without a link counts nothing. By how many fit a group as well as an entry's mean link does, as it
    was told before, large groups looked surest, and they are the least pure (docs/people.md).
    """
    count = links.count
    rest = (np.bincount(groups)[groups] if count else np.empty(0, dtype=np.int64)) - 1
    inside = groups[links.first] == groups[links.second]
    shares = links.nothing / (links.nothing + links.expected(links.weights[inside]))
    sums = np.zeros(count)
    for ends in (links.first[inside], links.second[inside]):
        np.add.at(sums, ends, shares)
    possible = np.where(links.cut, np.minimum(rest, links.most), rest)
    return np.where(rest > 0, np.minimum(sums / np.maximum(possible, 1), 1.0), 1.0)
