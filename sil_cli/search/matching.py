"""Which entries of a gallery a query finds, how many of them are listed, and what their scores mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sil_cli.errors import GalleryError, UsageError
from sil_cli.evaluation.calibration import CALIBRATION_FILE, Calibration, Decision, read_calibration
from sil_cli.gallery.filters import as_stored, make_filter, warn_if_nothing_passes
from sil_cli.gallery.interface import MODEL_FOLDER
from sil_cli.gallery.kept_model import require_named_model
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence, Set
    from pathlib import Path

    from sil_cli.gallery.entry import Match
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.interface import Gallery
    from sil_cli.runtime import Reporter
    from sil_cli.search.queries import Query
    from sil_cli.settings import RerankSettings, Settings

Group = list["Match"]
"""A listed match, and after it those that it stands for: others of its identity, where the best of each is listed."""

FIRST_FETCH = 64
_GROWTH = 4
NOT_CALIBRATED = (
    "No decision: the model is not calibrated. Scores put matches in order, but don't say whether any is this person."
)


class Search(Protocol):
    """A search in a gallery, such as `Gallery.search`."""

    def __call__(
        self, embeddings: np.ndarray, k: int, *, exclude: Sequence[Set[int]] | None = None
    ) -> list[list[Match]]:
        """For each row of embeddings its best k matches; fewer only where fewer exist."""


@dataclass(frozen=True)
class ResultLimits:
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
class Matcher:
    """Finds the matches of queries and judges them; what every query of one command shares.

    Attributes:
        search: Searches the gallery.
        calibration: What scores mean; None where nothing says.
        limits: Which matches are listed.
    """

    search: Search
    calibration: Calibration | None
    limits: ResultLimits

    def find(self, queries: Sequence[Query], embeddings: np.ndarray, exclude: Sequence[Set[int]]) -> list[list[Group]]:
        """What is listed for each query, ranked from 1; listed matches have their decision and whether they are right.

        Args:
            queries: Q of them.
            embeddings: Shape (Q, D).
            exclude: For each query the ids that it mustn't find.
        """
        found = find_groups(self.search, embeddings, self.limits, exclude)
        return [
            [
                [self._judged(replace(best, rank=rank), query), *rest]
                for rank, (best, *rest) in enumerate(groups, start=1)
            ]
            for query, groups in zip(queries, found, strict=True)
        ]

    def decide(self, matches: Sequence[Match]) -> Decision | None:
        """What the highest score among matches means, which re-ranking may have put elsewhere than first."""
        if self.calibration is None:
            return None
        return self.calibration.decide(max((match.score for match in matches), default=float("nan")))

    def verdict(self, matches: Sequence[Match]) -> str:
        """The decision on a query in one sentence."""
        calibration = self.calibration
        if calibration is None:
            return NOT_CALIBRATED
        if not matches:
            if self.limits.at_least is None:
                return "No match: there is no gallery entry to compare with."
            return f"No match: no gallery entry has a score of {self.limits.at_least:.3f} or more."
        best = max(match.score for match in matches)
        decision = calibration.decide(best)
        if decision == "match":
            count = sum(match.score >= calibration.match for match in matches)
            return f"Match: {count} of {len(matches)} listed have a score of {calibration.match:.3f} or more."
        if decision == "possible":
            return (
                f"Possible: the best score, {best:.3f}, lies between {calibration.possible:.3f} (possible) "
                f"and {calibration.match:.3f} (match)."
            )
        return f"No match: the best score, {best:.3f}, lies below {calibration.possible:.3f}."

    def _judged(self, match: Match, query: Query) -> Match:
        """A match with what its score means, and whether it shows the query's person.

        Identities are names within their network: between two networks nobody knows.
        """
        person = query.person
        known = None not in (person.identity, match.identity) and match.domain == person.domain
        return replace(
            match,
            decision=None if self.calibration is None else self.calibration.decide(match.score),
            correct=match.identity == person.identity if known else None,
        )


def make_matcher(settings: Settings, gallery: Gallery, reporter: Reporter) -> Matcher:
    """How an open gallery is searched, and which of its matches are listed; says so when no entry passes the filter.

    Raises:
        UsageError: All matches are asked for, and nothing says from which score on; or the filter makes no sense.
        SilError: The named model is another one, or the calibration can't be used.
    """
    wanted = settings.query
    if wanted.model is not None:
        require_named_model(wanted.model, gallery)  # or else another model's thresholds are blamed, which are all right
    folders = [folder for folder in (wanted.model, gallery.folder / MODEL_FOLDER) if folder is not None]
    calibration = _find_calibration(folders, str(gallery.model["fingerprint"]))
    at_least = wanted.min_score
    if wanted.all and at_least is None:
        if calibration is None:
            raise UsageError(
                "--all needs a threshold, and the model is not calibrated.",
                "Give one with --min-score, or run `sil calibrate` and `sil index-gallery` again.",
            )
        at_least = calibration.possible
    limits = ResultLimits(None if wanted.all else wanted.top, at_least, by_identity=wanted.group == "identity")
    only = as_stored(gallery.count_passing, make_filter(settings))
    warn_if_nothing_passes(gallery, only, reporter)
    search: Search = partial(gallery.search, where=only)
    if wanted.rerank:
        search = RerankedSearch(gallery, wanted.shortlist, settings.rerank, only)
    return Matcher(search, calibration, limits)


def _find_calibration(folders: Sequence[Path], fingerprint: str) -> Calibration | None:
    """The first calibration in `folders`; None where there is none."""
    for folder in folders:
        calibration = read_calibration(folder)
        if calibration is None:
            continue
        if calibration.fingerprint != fingerprint:
            raise GalleryError(
                f"{folder / CALIBRATION_FILE} was measured on model {calibration.fingerprint[:12]}, "
                f"but the gallery was made by {fingerprint[:12]}.",
                "Run `sil calibrate` on the gallery's model, or delete the file.",
            )
        return calibration
    return None


def find_groups(
    search: Search, embeddings: np.ndarray, limits: ResultLimits, exclude: Sequence[Set[int]]
) -> list[list[Group]]:
    """What is listed for each query, by the ranks of the search; more and more are fetched until that is complete.

    Args:
        search: Searches the gallery.
        embeddings: Shape (Q, D).
        limits: What is listed.
        exclude: For each query the ids that it mustn't find.

    Returns:
        The groups of each query, best first. One of an identity holds all that were seen, which are all there are only
        where `limits` has no `top`.
    """
    found: list[list[Match]] = [[] for _ in embeddings]
    unfinished = list(range(len(embeddings)))
    simple = limits.top is not None and not limits.by_identity
    k = limits.top if simple and limits.top is not None else max(FIRST_FETCH, _GROWTH * (limits.top or 0))
    while unfinished:
        fetched = search(embeddings[unfinished], k, exclude=[exclude[query] for query in unfinished])
        for query, matches in zip(unfinished, fetched, strict=True):
            found[query] = matches
        unfinished = [query for query in unfinished if not simple and not _is_complete(found[query], k, limits)]
        k *= _GROWTH
    return [_groups(matches, limits) for matches in found]


def _is_complete(matches: Sequence[Match], fetched: int, limits: ResultLimits) -> bool:
    if len(matches) < fetched or (limits.at_least is not None and matches[-1].score < limits.at_least):
        return True
    return limits.top is not None and len({_person(match) for match in matches}) >= limits.top


def _groups(matches: Sequence[Match], limits: ResultLimits) -> list[Group]:
    people: dict[object, Group] = {}
    for match in matches:
        if limits.at_least is None or match.score >= limits.at_least:
            people.setdefault(_person(match) if limits.by_identity else match.id, []).append(match)
    return list(people.values())[: limits.top]


def _person(match: Match) -> object:
    """Whom a match shows: identities are names within their network; one that is unknown is its own."""
    return match.id if match.identity is None else (match.domain, match.identity)


@dataclass(frozen=True)
class RerankedSearch:
    """A search in a gallery whose short list is re-ranked by k-reciprocal encoding.

    Only the query and its short list are each other's neighbours, so a query gets the same answer on its own and
    among others. Matches keep their cosine as score.

    Attributes:
        gallery: Open.
        shortlist: How many matches are re-ranked among each other.
        options: k1, k2 and λ.
        only: What the entries that may be found must fulfil; None for all.
    """

    gallery: Gallery
    shortlist: int
    options: RerankSettings
    only: Filter | None = None

    def __call__(
        self, embeddings: np.ndarray, k: int, *, exclude: Sequence[Set[int]] | None = None
    ) -> list[list[Match]]:
        """For each row of embeddings its best matches, in the new order, ranks from 1.

        Args:
            embeddings: Shape (Q, D), of any length but zero.
            k: At least so many are found, where so many exist: those beyond the short list follow it as they are, and
                a short list that is longer is given whole.
            exclude: For each query the ids that it mustn't find.

        Raises:
            SilError: As `Gallery.search`.
        """
        found = self.gallery.search(embeddings, max(k, self.shortlist), where=self.only, exclude=exclude)
        units = unit_rows(embeddings.astype(np.float32, copy=False), what="query")
        return [self._reranked(unit, matches) for unit, matches in zip(units, found, strict=True)]

    def _reranked(self, query: np.ndarray, matches: list[Match]) -> list[Match]:
        if not matches:
            return matches
        from sil_cli.similarity.rerank import KReciprocalDistances  # brings SciPy, which other queries go without

        listed, rest = matches[: self.shortlist], matches[self.shortlist :]
        vectors = self.gallery.vectors([match.id for match in listed])
        reranked = KReciprocalDistances(np.concatenate([query[None], vectors]), 1, self.options)
        distances = reranked.exact(0, np.arange(len(listed)))
        order = np.argsort(distances, kind="stable")  # ties as before
        return [replace(match, rank=rank) for rank, match in enumerate([*(listed[at] for at in order), *rest], start=1)]
