"""Which matches are listed: the best k, all from a score on, or the best of each of k identities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from sil_cli.gallery.entry import Match

FIRST_FETCH = 64
_GROWTH = 4


class Search(Protocol):
    """A search in a gallery, such as `Gallery.search`."""

    def __call__(
        self, embeddings: np.ndarray, k: int, *, exclude: Sequence[Set[int]] | None = None
    ) -> list[list[Match]]:
        """For each row of embeddings its best k matches; fewer only where fewer exist."""


@dataclass(frozen=True)
class Listing:
    """Which matches of a query are listed.

    Attributes:
        top: At most so many, or None for all.
        at_least: None of a lower score.
        by_identity: The best of each identity alone; who is unknown counts as someone else each time.
    """

    top: int | None
    at_least: float | None = None
    by_identity: bool = False


@dataclass(frozen=True)
class Listed:
    """The listed matches of one query.

    Attributes:
        matches: Ranked anew from 1.
        entries: For each match the number of entries seen that it stands for; those are all there are only where
            the listing has no `top`.
        cameras: For each match the cameras of these entries, the unknown one left out.
    """

    matches: list[Match]
    entries: list[int]
    cameras: list[list[str]]


def list_matches(search: Search, embeddings: np.ndarray, listing: Listing, exclude: Sequence[Set[int]]) -> list[Listed]:
    """The listed matches of each query; more and more are fetched until the listing is complete.

    Args:
        search: Searches the gallery.
        embeddings: Shape (Q, D).
        listing: What is listed.
        exclude: For each query the ids that it mustn't find.
    """
    found: list[list[Match]] = [[] for _ in embeddings]
    unfinished = list(range(len(embeddings)))
    simple = listing.top is not None and not listing.by_identity
    k = listing.top if simple and listing.top is not None else max(FIRST_FETCH, _GROWTH * (listing.top or 0))
    while unfinished:
        fetched = search(embeddings[unfinished], k, exclude=[exclude[query] for query in unfinished])
        for query, matches in zip(unfinished, fetched, strict=True):
            found[query] = matches
        unfinished = [query for query in unfinished if not simple and not _is_complete(found[query], k, listing)]
        k *= _GROWTH
    return [_listed(matches, listing) for matches in found]


def _is_complete(matches: Sequence[Match], fetched: int, listing: Listing) -> bool:
    if len(matches) < fetched or (listing.at_least is not None and matches[-1].score < listing.at_least):
        return True
    return listing.top is not None and len({_person(match) for match in matches}) >= listing.top


def _listed(matches: Sequence[Match], listing: Listing) -> Listed:
    good = [match for match in matches if listing.at_least is None or match.score >= listing.at_least]
    people: dict[object, list[Match]] = {}
    for match in good:
        people.setdefault(_person(match) if listing.by_identity else match.id, []).append(match)
    groups = list(people.values())[: listing.top]
    return Listed(
        matches=[
            group[0] if group[0].rank == rank else replace(group[0], rank=rank)
            for rank, group in enumerate(groups, start=1)
        ],
        entries=[len(group) for group in groups],
        cameras=[sorted({match.camera for match in group if match.camera is not None}) for group in groups],
    )


def _person(match: Match) -> object:
    """Whom a match shows: identities are names within their network; one that is unknown is its own."""
    return match.id if match.identity is None else (match.domain, match.identity)
