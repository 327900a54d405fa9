"""What `sil query` returns: the documents that `--json` prints, and the lines of `--batch`."""

from __future__ import annotations

from pathlib import Path

from sil_cli.evaluation.calibration import Decision
from sil_cli.gallery.entry import Match
from sil_cli.results import Result
from sil_cli.search.trajectory import CameraVisit


class IdentityGroup(Result):
    """The entries of one identity, or of one person whom `sil people` found, by their best.

    Attributes:
        person: The person's number, where matches were grouped by people; `name` is theirs.
        best: The id of the best match.
        expected_false_matches: That of the best match.
        entries: How many were seen; all there are where the whole gallery was listed.
        cameras: Where they were taken.
    """

    rank: int
    identity: str | None
    person: int | None = None
    name: str | None = None
    domain: str | None
    score: float
    decision: Decision | None
    expected_false_matches: float | None = None
    best: int
    entries: int
    cameras: list[str]


class DecisionThresholds(Result):
    """The thresholds that decisions follow, where they follow thresholds.

    Attributes:
        match: A score from here on is a match.
        possible: A score from here on is a possible one.
        made_on: What it was measured on.
    """

    match: float
    possible: float
    made_on: str


class DecisionByChance(Result):
    """What decisions follow where they follow what comes up by chance in the gallery.

    Attributes:
        searched: How many entries passed the filter.
        match: An entry is a match where at most so many false matches are expected among these.
        possible: And a possible one likewise.
        learnt_from: How many entries the gallery had when this was learnt.
        factor: By what factor an expected number of 1 may be off by the sample alone, in 90 % of samples.
    """

    searched: int
    match: float
    possible: float
    learnt_from: int
    factor: tuple[float, float]


class QueryResult(Result):
    """The outcome of `sil query` for one person.

    Attributes:
        image: The first image; of an entry its own.
        query: The query in words.
        fused: How many images and entries the query is the mean of.
        identity: Whom it shows, where a prepared data set or the gallery knows.
        decision: The best of all matches; None where nothing says.
        verdict: The decision as a sentence.
        reranking: How the matches were put in another order than that of their scores; None where they were not.
        groups: By identity or person, where that was asked for.
        trail: By camera and time, where that was asked for.
        timezone: The time zone of the times shown.
        thresholds: What decisions follow; None where nothing says, or they follow chance.
        chance: What they follow then.
        matches: The best first.
        sheet: The contact sheet; None where it was not wanted, or could not be written.
        html: The page, where one was asked for and could be written.
    """

    image: Path
    query: str
    fused: int = 1
    gallery: Path
    identity: str | None
    camera: str | None
    decision: Decision | None = None
    verdict: str = ""
    thresholds: DecisionThresholds | None = None
    chance: DecisionByChance | None = None
    reranking: str | None = None
    matches: list[Match]
    groups: list[IdentityGroup] | None = None
    trail: list[CameraVisit] | None = None
    timezone: str = "UTC"
    sheet: Path | None = None
    html: Path | None = None


class QueryResults(Result):
    """The outcome of `sil query` for several people."""

    queries: list[QueryResult]


class BatchLine(Result):
    """One line of `--batch`: a query in the order of the input.

    Attributes:
        image: As a path from the working folder, or absolute.
        identity: Whom it shows, where the source says so.
        error: Why the image could not be used; then there are no matches.
    """

    image: str
    box: tuple[int, int, int, int] | None = None
    identity: str | None = None
    decision: Decision | None = None
    matches: list[Match]
    error: str | None = None


class BatchResult(Result):
    """The outcome of `sil query --batch`.

    Attributes:
        out: The file of lines; None for standard output.
        queries: Lines that were written.
        failed: Those of them that say why an image could not be used.
    """

    gallery: Path
    queries: int
    failed: int
    seconds: float
    out: Path | None
