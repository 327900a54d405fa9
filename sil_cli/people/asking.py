"""`sil calibrate --gallery`: what comes up by chance in a gallery, and what people say of pairs they are asked about.

Questions go out as a contact sheet with a table beside it, answers come back in that table, or one by one. They are
kept as verdicts (`gallery/people.py`) with the probability with which their pair was drawn; `accept_rates` makes
rates of them.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sil_cli.data.images import ImageError, load_image, pixels_in
from sil_cli.errors import DataError, GalleryError, UsageError, as_cell, quoted
from sil_cli.evaluation.calibration import Chance
from sil_cli.evaluation.chance import LEAST, SAMPLE, VISIT, Reference
from sil_cli.files import sha256_of_file, writing
from sil_cli.gallery.chance import renew_chance, sample_of
from sil_cli.gallery.entry import EntryKey, GalleryEntry, box_text, in_utc, instant_of
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.people import Answer, Verdict, open_people
from sil_cli.gallery.stores import gallery_store_to_write
from sil_cli.output_checks import refuse_overwriting, require_writable
from sil_cli.people.accept_rates import (
    AcceptRates,
    Answers,
    PairFrame,
    accept_rates,
    draw_pairs,
    reach_of,
    searches,
)
from sil_cli.people.deciding import decide
from sil_cli.people.telling import changing_people, find_keys, in_words, judge, read_table
from sil_cli.report.canvas import require_sheet_format, shrunk, write_sheet
from sil_cli.report.contact_sheet import IMAGE_SIZE, Card, pair_sheet
from sil_cli.results import Result
from sil_cli.settings import find_zone
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sil_cli.gallery.interface import Gallery
    from sil_cli.gallery.people import Pair
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

ORIGIN = "ask"
"""How verdicts came that answer a question."""

COLUMNS_ASKED = (
    *(f"{side}_{column}" for side in ("first", "second") for column in ("path", "camera", "taken", "source", "box")),
    *("expected", "probability", "origin", "why"),
)
"""Columns of a table of questions after its numbers and answers."""

_QUERIES = 1024  # entries that stand for queries
_FIRST_FETCH, _MOST_FETCHED = 64, 8192
_AT_ONCE = 256


class Question(Result):
    """A pair that somebody is asked about: is it one person?

    Attributes:
        number: On the sheet, from 1.
        ids: Of the two entries; the first searches, the second is found.
        first: What is known of it.
        second: Likewise.
        expected_false_matches: How many entries of other people are expected to look as alike by chance.
        probability: With which the pair was drawn.
    """

    number: int
    ids: tuple[int, int]
    first: GalleryEntry
    second: GalleryEntry
    expected_false_matches: float
    probability: float


class AnswersRead(Result):
    """What a table of answers held.

    Attributes:
        same: Pairs that are said to be one person.
        different: To be two.
        unsure: Of which it can't be told.
        known: Answers that had been read before.
        gone: Answers about an entry that the gallery no longer has; left out.
        contradicting: Pairs that the table answers in two ways; left out.
    """

    same: int = 0
    different: int = 0
    unsure: int = 0
    known: int = 0
    gone: int = 0
    contradicting: int = 0


class CalibrateGalleryResult(Result):
    """The outcome of `sil calibrate --gallery`.

    Attributes:
        gallery: Whose entries were looked at.
        chance: What comes up by chance among them.
        questions: What is asked; empty where nothing was to be.
        drawn: When the questions were drawn, which names them.
        sheet: The contact sheet of the questions.
        table: The table that takes the answers.
        read: What was read of answers.
        rates: What the answers kept in the gallery say; None where there are none.
        option: What names this gallery in another command.
        warnings: Answers that contradict each other, and images that can't be opened.
    """

    gallery: Path
    chance: Chance
    questions: list[Question] = Field(default_factory=list)
    drawn: str = ""
    sheet: Path | None = None
    table: Path | None = None
    read: AnswersRead | None = None
    rates: AcceptRates | None = None
    option: str = ""
    warnings: list[str] = Field(default_factory=list)


def calibrate_gallery(settings: Settings, reporter: Reporter, *, by: str | None = None) -> CalibrateGalleryResult:
    """Learn from a gallery's own entries how many of other people look as alike by chance, and keep it in the gallery.

    With `calibrate.answers` a table of answers is read first; with `calibrate.ask` pairs are drawn to ask about.

    Args:
        settings: Of the command.
        reporter: Shows progress, and what was left out.
        by: Who answered; None for whoever is logged in.

    Raises:
        GalleryError: There is no gallery, nothing can be learnt from it, or no image of the questions can be opened.
        DataError: The table can't be read; nothing of it is kept.
        UsageError: A sheet or a table that is to be written holds something else.
    """
    wanted = settings.calibrate
    store = gallery_store_to_write(settings)
    table = wanted.sheet.with_suffix(".csv")
    if wanted.ask is not None:
        _require_outputs(settings, table)
    with store.open() as gallery:
        only_answers = wanted.ask is not None or wanted.answers is not None
        chance = renew_chance(gallery, reporter, force=not only_answers)
        if chance is None:
            count = len(gallery)
            why = f"{count:,} entries are too few" if count < LEAST else "its entries look alike"
            raise GalleryError(
                f"What comes up by chance in {store.name} can't be told: {why}.",
                f"That takes at least {LEAST} entries of different people; until then the model's thresholds decide.",
            )
        read = None
        if wanted.answers is not None:
            read = read_answers(settings, gallery, wanted.answers, judge(by), reporter)
        if wanted.ask is not None:
            _require_unanswered(gallery, table)
        judged = _Judged.of(gallery)
        result = CalibrateGalleryResult(
            gallery=store.folder, chance=chance, read=read, option=store.option(), warnings=judged.warnings
        )
        if wanted.ask is None and not judged.drawn:
            return _told(result, reporter)
        frame = make_frame(gallery, chance, settings, reporter)
        result = result.model_copy(update={"rates": _rates(gallery, chance, frame, judged, settings)})
        if wanted.ask is None:
            return _told(result, reporter)
        drawn = datetime.now(UTC).isoformat(timespec="microseconds")
        questions = _draw(gallery, frame, judged, wanted.ask, settings)
        warnings = [*result.warnings, *_write(gallery, questions, drawn, table, settings)]
    asked = {"questions": questions, "drawn": drawn, "sheet": wanted.sheet, "table": table, "warnings": warnings}
    return _told(result.model_copy(update=asked), reporter)


def _told(result: CalibrateGalleryResult, reporter: Reporter) -> CalibrateGalleryResult:
    for text in result.warnings:
        reporter.warn(text)
    return result


def answer_question(
    settings: Settings, asked: CalibrateGalleryResult, question: Question, answer: Answer, *, by: str | None
) -> None:
    """Keep the answer to a question in the gallery; a later one by the same person takes its place.

    Args:
        settings: With `gallery.log`.
        asked: The outcome that holds the question.
        question: What was asked.
        answer: Whether it is one person.
        by: Who answers; None for whoever is logged in.
    """
    verdict = Verdict(
        question.first.key,
        question.second.key,
        answer,
        judge(by),
        datetime.now(UTC),
        _reason(asked.drawn),
        ORIGIN,
        question.probability,
    )
    details: dict[str, object] = {"first": question.ids[0], "second": question.ids[1], "answer": answer}
    with changing_people(settings, asked.gallery, "verdict", details | {"judge": verdict.by}) as people:
        people.add_verdicts([verdict])


def make_frame(gallery: Gallery, chance: Chance, settings: Settings, reporter: Reporter) -> PairFrame:
    """The pairs of a gallery that may be asked about.

    Args:
        gallery: Open.
        chance: What comes up by chance in it.
        settings: Say what a match and a possible one are.
        reporter: Shows progress.
    """
    reference, instants = sample_of(gallery)
    ids = gallery.sample(SAMPLE)[:_QUERIES]
    known = gallery.entries(ids)
    ids = [one for one in ids if one in known]
    finder = _PairFinder(gallery, chance, reference, reach_of(settings.query.possible))
    found: list[_Found] = []
    with reporter.task("Looking for pairs to ask about", len(ids), "entries") as task:
        for camera, some in _by_camera(ids, known, chance.pairs_from).items():
            for start in range(0, len(some), _AT_ONCE):
                part = some[start : start + _AT_ONCE]
                found += finder.find(part, [known[one] for one in part], camera)
                task.advance(len(part))
    first = np.array([one.first for one in found], dtype=np.int64)
    second = np.array([one.second for one in found], dtype=np.int64)
    kept = searches(first, second)
    cameras = np.unique([f"{one.cameras[0]}\0{one.cameras[1]}" for one in found] or [""], return_inverse=True)[1]
    return PairFrame(
        first=first[kept],
        second=second[kept],
        expected=np.array([one.expected for one in found])[kept] if found else np.empty(0),
        cameras=cameras[: len(first)][kept],
        queries=len(ids),
        share=len(ids) / max(len(gallery), len(ids)),
        others=_share_of_others(reference.cameras, instants, chance.pairs_from) * len(gallery),
        entries=len(gallery),
    )


def _by_camera(ids: Sequence[int], entries: Mapping[int, GalleryEntry], pairs_from: str) -> dict[str | None, list[int]]:
    """Entries by what their search excludes, their camera; where cameras tell, those of none have no pair."""
    groups: dict[str | None, list[int]] = {}
    for one in ids:
        camera = entries[one].camera if pairs_from == "cameras" else None
        if camera is not None or pairs_from != "cameras":
            groups.setdefault(camera, []).append(one)
    return groups


def _share_of_others(cameras: NDArray[np.str_], instants: NDArray[np.float64], pairs_from: str) -> float:
    """The share of entries that are of another visit than an entry, on average."""
    if pairs_from == "cameras":
        _, counts = np.unique(cameras[cameras != ""], return_counts=True)
        return float(1 - (counts / counts.sum()) @ (counts / counts.sum())) * float((cameras != "").mean()) ** 2
    if pairs_from == "times":
        return float((np.abs(instants[:_QUERIES, None] - instants[None]) >= VISIT).mean())
    return 1 - 1 / len(cameras)


@dataclass(frozen=True)
class _Found:
    """One entry as another finds it."""

    first: int
    second: int
    expected: float
    cameras: tuple[str, str]


@dataclass(frozen=True)
class _PairFinder:
    """Finds the pairs within reach of some entries."""

    gallery: Gallery
    chance: Chance
    reference: Reference
    reach: float

    def find(self, ids: Sequence[int], entries: Sequence[GalleryEntry], camera: str | None) -> list[_Found]:
        """The pairs within reach of entries of one camera, or of any."""
        where = None if camera is None else Filter(excluded_cameras=(camera,))
        vectors = self.gallery.vectors(ids)
        found: list[_Found] = []
        waiting, k = list(range(len(ids))), _FIRST_FETCH
        while waiting:
            matches = self.gallery.search(vectors[waiting], k, where=where, exclude=[{ids[place]} for place in waiting])
            scores = [np.array([match.score for match in some]) for some in matches]
            cameras = [[match.camera or "" for match in some] for some in matches]
            measured = self.reference.measure(unit_rows(vectors[waiting]), scores, cameras)
            longer = []
            for place, some, z in zip(waiting, matches, measured, strict=True):
                expected = len(self.gallery) * self.chance.tail.above(z)
                if len(some) == k and k < _MOST_FETCHED and np.nanmin(expected[-1:], initial=np.inf) <= self.reach:
                    longer.append(place)
                    continue
                found += [
                    _Found(ids[place], match.id, float(each), (entries[place].camera or "", match.camera or ""))
                    for match, each in zip(some, expected.tolist(), strict=True)
                    if each <= self.reach and self._apart(entries[place], match)
                ]
            waiting, k = longer, 4 * k
        return found

    def _apart(self, one: GalleryEntry, other: GalleryEntry) -> bool:
        """Whether two entries are of different visits, as far as is known."""
        if self.chance.pairs_from == "cameras":
            return other.camera is not None
        if self.chance.pairs_from == "times":
            times = (one.time, other.time)
            return None not in times and abs(instant_of(one.time) - instant_of(other.time)) >= VISIT  # type: ignore[arg-type]
        return True


@dataclass(frozen=True)
class _Judged:
    """What the verdicts in a gallery come to, of entries that it still has.

    Attributes:
        ids: The entries' ids.
        known: By pairs of ids, ascending, whether it is one person; without pairs whose verdicts contradict others.
        seen: All pairs of ids with a verdict, those of which nobody could tell among them.
        drawn: The verdicts that answer a question with yes or no, one of each pair.
        warnings: What contradicts what.
    """

    ids: dict[EntryKey, int]
    known: dict[tuple[int, int], bool]
    seen: set[tuple[int, int]]
    drawn: list[Verdict]
    warnings: list[str]

    @classmethod
    def of(cls, gallery: Gallery) -> _Judged:
        """Those of a gallery."""
        with open_people(gallery.folder) as people:
            standing = people.standing()
        ids = find_keys(gallery, {key for one in standing for key in one.pair})
        standing = [one for one in standing if one.first in ids and one.second in ids]
        contradictions = decide(standing).contradictions
        doubtful = {one.pair for each in contradictions for one in (*each.different, *each.same)}
        warnings = [f"Left out, as they can't all be right: {in_words(each)}." for each in contradictions]
        decided = [one for one in standing if one.answer in ("same", "different") and one.pair not in doubtful]
        drawn = {one.pair: one for one in decided if one.origin == ORIGIN and one.probability is not None}

        def numbers(pair: Pair) -> tuple[int, int]:
            one, other = ids[pair[0]], ids[pair[1]]
            return min(one, other), max(one, other)

        return cls(
            ids,
            {numbers(one.pair): one.answer == "same" for one in decided},
            {numbers(one.pair) for one in standing},
            list(drawn.values()),
            warnings,
        )


def _rates(
    gallery: Gallery, chance: Chance, frame: PairFrame, judged: _Judged, settings: Settings
) -> AcceptRates | None:
    """What the answers say, by how alike the pairs are found today."""
    if not judged.drawn:
        return None
    reference, _ = sample_of(gallery)
    pairs = np.array([[judged.ids[key] for key in one.pair] for one in judged.drawn])
    turned = np.where(searches(pairs[:, 0], pairs[:, 1])[:, None], pairs, pairs[:, ::-1])
    queries, others = (unit_rows(gallery.vectors(side.tolist())) for side in turned.T)
    entries = gallery.entries(turned[:, 1].tolist())
    scores = [np.array([one @ other]) for one, other in zip(queries, others, strict=True)]
    z = reference.measure(queries, scores, [[entries[one].camera or ""] for one in turned[:, 1].tolist()])
    known = [
        judged.known.get((min(a, b), max(a, b)))
        for a, b in zip(frame.first.tolist(), frame.second.tolist(), strict=True)
    ]
    return accept_rates(
        frame,
        np.array([-1 if each is None else int(each) for each in known], dtype=np.int8),
        Answers(
            expected=np.nan_to_num(len(gallery) * chance.tail.above(np.concatenate(z)), nan=np.inf),
            same=np.array([one.answer == "same" for one in judged.drawn]),
            weights=np.array([1 / (one.probability or 1.0) for one in judged.drawn]),
            draws=np.unique([one.why for one in judged.drawn], return_inverse=True)[1],
        ),
        match=settings.query.match,
        possible=settings.query.possible,
    )


def _draw(gallery: Gallery, frame: PairFrame, judged: _Judged, count: int, settings: Settings) -> list[Question]:
    """The questions, none of a pair that somebody has judged.

    Raises:
        GalleryError: There is no pair to ask about.
    """
    pairs = zip(frame.first.tolist(), frame.second.tolist(), strict=True)
    free = np.array([(min(a, b), max(a, b)) not in judged.seen for a, b in pairs], dtype=bool)
    rows, probabilities = draw_pairs(
        frame, free, count, match=settings.query.match, possible=settings.query.possible, seed=len(judged.seen)
    )
    if not len(rows):
        raise GalleryError(
            f"{gallery.name} has no pair to ask about: none is left within reach that nobody has answered.",
            "`sil calibrate --gallery DIR` shows what the answers say.",
        )
    first, second = frame.first[rows].tolist(), frame.second[rows].tolist()
    entries = gallery.entries(sorted({*first, *second}))
    return [
        Question(
            number=number,
            ids=(one, other),
            first=entries[one],
            second=entries[other],
            expected_false_matches=float(f"{expected:.3g}"),
            probability=probability,
        )
        for number, (one, other, expected, probability) in enumerate(
            zip(first, second, frame.expected[rows].tolist(), probabilities.tolist(), strict=True), start=1
        )
        if one in entries and other in entries
    ]


def _require_outputs(settings: Settings, table: Path) -> None:
    """Refuse, before any work, a sheet or a table that can't be written."""
    sheet = settings.calibrate.sheet
    if sheet.name == "none":
        raise UsageError("The questions need a sheet.", "Name a file with --sheet.")
    require_sheet_format(sheet)
    if settings.calibrate.answers is not None and settings.calibrate.answers != table:
        refuse_overwriting(table, [settings.calibrate.answers], option="--sheet")
    for path in (sheet, table):
        require_writable(path, option="--sheet FILE")


def _require_unanswered(gallery: Gallery, table: Path) -> None:
    """Refuse to write over a table with answers that were not read, or over one that isn't ours.

    Raises:
        UsageError: It is one.
    """
    if not table.exists():
        return
    with open_people(gallery.folder) as people:
        known = {one.pair for one in people.verdicts()}
    try:
        unread = sum(one.pair not in known for one, _ in read_table(table, gallery)[0])
    except DataError as error:
        raise UsageError(
            f"{table} would be written over, and can't be read as answers: {error.what}",
            "Name another sheet with --sheet; the table goes beside it.",
        ) from error
    if unread:
        raise UsageError(
            f"{table} holds {unread:,} answers that were not read.",
            f"Read them with --answers {quoted(table)}, or name another sheet with --sheet.",
        )


def _write(gallery: Gallery, questions: Sequence[Question], drawn: str, table: Path, settings: Settings) -> list[str]:
    """Write the sheet and the table; returns what is to be said of images that can't be opened.

    Raises:
        GalleryError: None can.
        OSError: A file can't be written.
    """
    zone, max_pixels = find_zone(settings.gallery.timezone), pixels_in(settings.data.max_megapixels)
    reasons: dict[str, str] = {}

    def card(entry: GalleryEntry) -> Card:
        path = entry.file(gallery.folder)
        image = None
        try:
            image = shrunk(load_image(path, max_pixels=max_pixels, box=entry.box), IMAGE_SIZE)
        except ImageError as error:
            reasons[str(path)] = error.reason
        facts = [] if entry.camera is None else [f"camera {entry.camera}"]
        facts += [] if entry.time is None else [f"{in_utc(entry.time).astimezone(zone):%Y-%m-%d %H:%M:%S}"]
        return Card(image, facts=facts)

    pairs = [(card(one.first), card(one.second)) for one in questions]
    missing = sum(None in (one.image, other.image) for one, other in pairs)
    if missing == len(pairs):
        path, reason = next(iter(reasons.items()))
        raise GalleryError(
            f"None of {len(pairs):,} pairs can be looked at: {path}: {reason}.",
            "Put the gallery's images back to where they were indexed.",
        )
    users_own = settings.is_users_own("calibrate.sheet")
    write_sheet(settings.calibrate.sheet, pair_sheet(pairs), users_own=users_own)
    with writing(table, users_own=users_own) as stream:
        stream.write(_as_table(questions, drawn).encode())
    if not missing:
        return []
    path, reason = next(iter(reasons.items()))
    return [f"{missing:,} pairs lack an image on the sheet, such as {path}: {reason}."]


def _as_table(questions: Sequence[Question], drawn: str) -> str:
    """The questions as a table of verdicts (`sil people verdicts`) that lacks the answers."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, ("number", "answer", *COLUMNS_ASKED))
    table.writeheader()
    for one in questions:
        cells = {"origin": ORIGIN, "why": _reason(drawn)}
        for side, entry in (("first", one.first), ("second", one.second)):
            cells |= {
                f"{side}_path": entry.path,
                f"{side}_source": entry.source,
                f"{side}_box": box_text(entry.box),
                f"{side}_camera": entry.camera or "",
                f"{side}_taken": "" if entry.time is None else entry.time.isoformat(),
            }
        numbers = {"number": one.number, "expected": one.expected_false_matches, "probability": repr(one.probability)}
        table.writerow({name: as_cell(cell) for name, cell in cells.items()} | numbers)
    return text.getvalue()


def _reason(drawn: str) -> str:
    return f"drawn {drawn}"


def read_answers(settings: Settings, gallery: Gallery, table: Path, by: str, reporter: Reporter) -> AnswersRead:
    """Keep the answers of a table in its gallery, all or none.

    Args:
        settings: With `gallery.log`.
        gallery: Open.
        table: As `--ask` wrote it, with answers.
        by: Who answered, where the table doesn't say.
        reporter: Is told what is left out.

    Raises:
        DataError: It can't be read, an answer is no word that is known, or no pair is of this gallery.
    """
    rows, gone = read_table(table, gallery)
    if gone and not rows:
        raise DataError(
            f"{table} answers nothing about two entries of {gallery.name}.",
            "Name the gallery that its questions were drawn from with --gallery.",
        )
    given = [one if one.by else replace(one, by=by) for one, _ in rows]
    said: dict[Pair, set[Answer]] = {}
    for one in given:
        said.setdefault(one.pair, set()).add(one.answer)
    contradicting = [pair for pair, answers in said.items() if len(answers) > 1]
    for first, second in contradicting:
        reporter.warn(f"{table} answers in two ways whether {first[1]} and {second[1]} are one person: left out.")
    details: dict[str, object] = {"table": sha256_of_file(table), "judge": by}
    with changing_people(settings, gallery.folder, "verdict", details) as people:
        standing = {(one.by, one.pair): one.answer for one in people.standing()}
        wanted = {one.pair: one for one in given if len(said[one.pair]) == 1}
        fresh = [one for one in wanted.values() if standing.get((one.by, one.pair)) != one.answer]
        details["added"] = people.add_verdicts(fresh)
    if gone:
        reporter.warn(f"{len(gone):,} answers of {table} are about entries that are gone: left out.")
    counts = Counter(one.answer for one in fresh)
    return AnswersRead(
        same=counts["same"],
        different=counts["different"],
        unsure=counts["unsure"],
        known=len(wanted) - len(fresh),
        gone=len(gone),
        contradicting=len(contradicting),
    )
