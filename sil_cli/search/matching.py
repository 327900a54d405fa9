"""Which entries of a gallery a query finds, how many of them are listed, and what their scores mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sil_cli.errors import GalleryError, UsageError
from sil_cli.evaluation.calibration import (
    CALIBRATION_FILE,
    Calibration,
    Chance,
    Decision,
    read_calibration,
    read_chance,
)
from sil_cli.gallery.filters import as_stored, make_filter, warn_if_nothing_passes
from sil_cli.gallery.interface import MODEL_FOLDER
from sil_cli.gallery.kept_model import require_named_model
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set
    from pathlib import Path

    from sil_cli.evaluation.chance import Reference
    from sil_cli.gallery.entry import EntryKey, Match
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.interface import Gallery
    from sil_cli.runtime import Reporter
    from sil_cli.search.queries import Query
    from sil_cli.settings import QuerySettings, RerankSettings, Settings

Group = list["Match"]
"""A listed match, and after it those that it stands for: others of its identity, where the best of each is listed."""

FIRST_FETCH = 64
_GROWTH = 4
NOT_CALIBRATED = (
    "No decision: the gallery is too small to tell what comes up by chance, and its model is not calibrated. Scores put"
    " matches in order, but don't say whether any is this person."
)


class Search(Protocol):
    """A search in a gallery, such as `Gallery.search`."""

    def __call__(
        self, embeddings: np.ndarray, k: int, *, exclude: Sequence[Set[int]] | None = None
    ) -> list[list[Match]]:
        """For each row of embeddings its best k matches; fewer only where fewer exist."""


@dataclass(frozen=True)
class FoundPeople:
    """Whom a gallery's entries show.

    Attributes:
        person_of: The number of each entry's person, as far as one was found.
        names: Of people, by number; '' for none.
    """

    person_of: Mapping[EntryKey, int]
    names: Mapping[int, str]

    def named(self, match: Match) -> Match:
        """A match with the person whom it shows."""
        person = self.person_of.get(match.key)
        return match if person is None else replace(match, person=person, person_name=self.names[person] or None)


@dataclass(frozen=True)
class ResultLimits:
    """Which matches of a query are listed.

    Attributes:
        top: At most so many, or None for all.
        at_least: None of a lower score.
        by_identity: The best of each identity alone; who is unknown counts as someone else each time.
        people: Of each person alone, where this says whom entries show; likewise.
    """

    top: int | None
    at_least: float | None = None
    by_identity: bool = False
    people: FoundPeople | None = None

    @property
    def in_groups(self) -> bool:
        """Whether a listed match may stand for others."""
        return self.by_identity or self.people is not None

    def shown_by(self, match: Match) -> object:
        """What a match shows, of which the best alone is listed: itself, an identity or a person.

        Identities are names within their network.
        """
        if self.people is not None:
            return self.people.person_of.get(match.key, ("entry", match.id))
        return match.id if not self.by_identity or match.identity is None else (match.domain, match.identity)


@dataclass(frozen=True)
class Expectation:
    """How many entries of other people look as alike by chance, in one gallery and under one filter.

    Attributes:
        chance: What was learnt of the gallery.
        reference: The entries against which scores are measured.
        searched: How many entries pass the filter.
        match: A match is expected to come up at most so often by chance.
        possible: A possible match likewise.
    """

    chance: Chance
    reference: Reference
    searched: int
    match: float
    possible: float

    def decide(self, expected: float) -> Decision:
        """What it means that so many entries would look as alike by chance."""
        return "match" if expected <= self.match else "possible" if expected <= self.possible else "no match"

    def fill_in(self, found: Sequence[Sequence[Match]], embeddings: np.ndarray) -> list[list[Match]]:
        """The matches of each query with the number expected, where it can be told.

        Args:
            found: For each query some matches.
            embeddings: Shape (Q, D).
        """
        measured = self.reference.measure(
            unit_rows(embeddings.astype(np.float32, copy=False), what="query"),
            [np.array([match.score for match in matches]) for matches in found],
            [[match.camera or "" for match in matches] for matches in found],
        )
        return [
            [
                match if np.isnan(each) else replace(match, expected_false_matches=float(f"{self.searched * each:.3g}"))
                for match, each in zip(matches, self.chance.tail.above(z).tolist(), strict=True)
            ]
            for matches, z in zip(found, measured, strict=True)
        ]

    def lowest_score(self, embeddings: np.ndarray) -> float:
        """The score below which no entry can be even a possible match of any of these queries, (Q, D)."""
        queries = unit_rows(embeddings.astype(np.float32, copy=False), what="query")
        z = self.chance.tail.z_of(self.possible / max(self.searched, 1))
        return float(self.reference.lowest_scores(queries, z).min())


@dataclass(frozen=True)
class Matcher:
    """Finds the matches of queries and judges them; what every query of one command shares.

    Attributes:
        search: Searches the gallery.
        calibration: What scores mean on labelled people; None where nothing says.
        expectation: What comes up by chance in this gallery; None where that is not known.
        limits: Which matches are listed.
    """

    search: Search
    calibration: Calibration | None
    expectation: Expectation | None
    limits: ResultLimits

    @property
    def by_chance(self) -> Expectation | None:
        """What decides, where it isn't thresholds: those measured on people whom the user named come first."""
        return None if self.calibration is not None and self.calibration.named else self.expectation

    def find(self, queries: Sequence[Query], embeddings: np.ndarray, exclude: Sequence[Set[int]]) -> list[list[Group]]:
        """What is listed for each query, ranked from 1; listed matches have their decision and whether they are right.

        Args:
            queries: Q of them.
            embeddings: Shape (Q, D).
            exclude: For each query the ids that it mustn't find.
        """
        limits, chance = self.limits, self.by_chance
        everything = chance is not None and limits.top is None and limits.at_least is None
        if chance is not None and everything:
            limits = replace(limits, at_least=chance.lowest_score(embeddings))
        found = find_groups(self.search, embeddings, limits, exclude)
        if self.expectation is not None:
            best = self.expectation.fill_in([[group[0] for group in groups] for groups in found], embeddings)
            found = [
                [[first, *group[1:]] for first, group in zip(firsts, groups, strict=True)]
                for firsts, groups in zip(best, found, strict=True)
            ]
        judged = [
            [[self._judged(best, query), *rest] for best, *rest in groups]
            for query, groups in zip(queries, found, strict=True)
        ]
        if everything:
            judged = [[group for group in groups if group[0].decision != "no match"] for groups in judged]
        named = self.limits.people.named if self.limits.people is not None else lambda match: match
        return [
            [[replace(named(best), rank=rank), *rest] for rank, (best, *rest) in enumerate(groups, start=1)]
            for groups in judged
        ]

    def decide(self, matches: Sequence[Match]) -> Decision | None:
        """The best decision among matches, which re-ranking may have put elsewhere than first."""
        if self.by_chance is None and self.calibration is None:
            return None
        made = {match.decision for match in matches}
        return "match" if "match" in made else "possible" if "possible" in made else "no match"

    def verdict(self, matches: Sequence[Match]) -> str:
        """The decision on a query in one sentence."""
        calibration, chance = self.calibration, self.by_chance
        if calibration is None and chance is None:
            return NOT_CALIBRATED
        if not matches:
            if self.limits.at_least is not None:
                return f"No match: no gallery entry has a score of {self.limits.at_least:.3f} or more."
            if self.limits.top is None and chance is not None:
                return f"No match: of each entry, {chance.possible:g} or more of others would look as alike by chance."
            return "No match: there is no gallery entry to compare with."
        if chance is not None:
            return _verdict_by_chance(matches, chance)
        if calibration is None:
            return NOT_CALIBRATED
        best = max(match.score for match in matches)
        decision = calibration.decide(best)
        if decision == "match":
            accepted = [match for match in matches if match.score >= calibration.match]
            expected = [each.expected_false_matches for each in accepted if each.expected_false_matches is not None]
            others = f"; {max(expected):.2g} of others would by chance" if expected else ""
            listed = f"{len(accepted)} of {len(matches)} listed have a score of {calibration.match:.3f} or more"
            return f"Match: {listed}{others}."
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
            match, decision=self._decision(match), correct=match.identity == person.identity if known else None
        )

    def _decision(self, match: Match) -> Decision | None:
        if self.by_chance is not None and match.expected_false_matches is not None:
            return self.by_chance.decide(match.expected_false_matches)
        return None if self.calibration is None else self.calibration.decide(match.score)


def _verdict_by_chance(matches: Sequence[Match], chance: Expectation) -> str:
    """The decision on a query in one sentence, by what comes up by chance."""
    told = [match.expected_false_matches for match in matches if match.expected_false_matches is not None]
    if not told:
        return "No decision: the query scores alike against nearly all entries."
    least, among = min(told), f"among {chance.searched:,} entries"
    if least <= chance.match:
        count = sum(each <= chance.match for each in told)
        expected = f"{least:.2g} false matches are" if least >= 0.01 else "fewer than 0.01 false matches are"
        return f"Match: {count} of {len(matches)} listed; for the best, {expected} expected {among}."
    about = f"about {least:.0f}" if least >= 2 else f"{least:.1f}"
    alike = f"{about} of {chance.searched:,} entries would look as alike as the best by chance."
    return f"{'Possible' if least <= chance.possible else 'No match'}: {alike}"


@dataclass(frozen=True)
class Learnt:
    """What is known of a gallery's scores, whatever is searched.

    Attributes:
        calibration: What scores mean on labelled people; None where nothing says.
        chance: What comes up by chance in the gallery; None where that is not known.
        reference: The entries against which scores are measured then.
    """

    calibration: Calibration | None
    chance: Chance | None
    reference: Reference | None


def learnt_of(settings: Settings, gallery: Gallery) -> Learnt:
    """What is known of an open gallery's scores; whoever makes many matchers reads it once.

    Raises:
        SilError: The calibration can't be used.
    """
    folders = [folder for folder in (settings.query.model, gallery.folder / MODEL_FOLDER) if folder is not None]
    calibration = _find_calibration(folders, str(gallery.model["fingerprint"]))
    chance = read_chance(gallery.folder)
    if chance is None or chance.fingerprint != gallery.model["fingerprint"]:
        return Learnt(calibration, None, None)
    from sil_cli.gallery.chance import sample_of

    return Learnt(calibration, chance, sample_of(gallery)[0])


def make_matcher(settings: Settings, gallery: Gallery, reporter: Reporter, learnt: Learnt | None = None) -> Matcher:
    """How an open gallery is searched, and which of its matches are listed; says so when no entry passes the filter.

    Args:
        settings: With the filter and what is listed.
        gallery: Open.
        reporter: Is warned when no entry passes.
        learnt: What is known of its scores, where that was read already.

    Raises:
        UsageError: All matches are asked for, and nothing says from which score on; or the filter makes no sense.
        SilError: The named model is another one, or the calibration can't be used.
    """
    wanted = settings.query
    if wanted.model is not None:
        require_named_model(wanted.model, gallery)  # or else another model's thresholds are blamed, which are all right
    learnt = learnt_of(settings, gallery) if learnt is None else learnt
    calibration = learnt.calibration
    only = as_stored(gallery.count_passing, make_filter(settings))
    warn_if_nothing_passes(gallery, only, reporter)
    expectation = _expectation(settings.query, gallery, only, learnt, reporter)
    decided_by_chance = expectation is not None and not (calibration is not None and calibration.named)
    at_least = wanted.min_score
    if wanted.all and at_least is None and not decided_by_chance:
        if calibration is None:
            raise UsageError(
                "--all needs a threshold, and the model is not calibrated.",
                "Give one with --min-score, or run `sil calibrate` and `sil index-gallery` again.",
            )
        at_least = calibration.possible
    people = _people(gallery, reporter) if wanted.group == "person" else None
    limits = ResultLimits(
        None if wanted.all else wanted.top, at_least, by_identity=wanted.group == "identity", people=people
    )
    search: Search = partial(gallery.search, where=only)
    if wanted.rerank:
        search = RerankedSearch(gallery, wanted.shortlist, settings.rerank, only)
    return Matcher(search, calibration, expectation, limits)


def _people(gallery: Gallery, reporter: Reporter) -> FoundPeople:
    """Whom a gallery's entries show, as far as `sil people` found it."""
    from sil_cli.gallery.people import open_people
    from sil_cli.people.register import read_register

    with open_people(gallery.folder) as people:
        register = read_register(people)
    if not register.names:
        reporter.warn(f"Nobody was found in {gallery.name} yet: `sil people find` groups its entries.")
    return FoundPeople(register.person_of(), register.names)


def _expectation(
    wanted: QuerySettings, gallery: Gallery, only: Filter, learnt: Learnt, reporter: Reporter
) -> Expectation | None:
    """What comes up by chance among the entries that pass a filter; None where nobody learnt it of this gallery."""
    if learnt.chance is None or learnt.reference is None:
        return None
    from sil_cli.gallery.chance import is_current

    if not is_current(learnt.chance, len(gallery)):
        reporter.warn(
            f"What comes up by chance was learnt when the gallery had {learnt.chance.entries:,} entries; it has "
            f"{len(gallery):,} now. `sil calibrate --gallery {gallery.folder}` learns it again."
        )
    searched = gallery.count_passing(only) if only else len(gallery)
    return Expectation(learnt.chance, learnt.reference, searched, wanted.match, wanted.possible)


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
    simple = limits.top is not None and not limits.in_groups
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
    return limits.top is not None and len({limits.shown_by(match) for match in matches}) >= limits.top


def _groups(matches: Sequence[Match], limits: ResultLimits) -> list[Group]:
    groups: dict[object, Group] = {}
    for match in matches:
        if limits.at_least is None or match.score >= limits.at_least:
            groups.setdefault(limits.shown_by(match), []).append(match)
    return list(groups.values())[: limits.top]


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
