"""`sil people verdict` and `sil people verdicts`: what people say of two entries, one by one or as a table."""

from __future__ import annotations

import contextlib
import csv
import getpass
import io
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import Field

from sil_cli.data.images import Box
from sil_cli.data.tables import read_rows, require_columns
from sil_cli.errors import DataError, SilError, UsageError, as_cell, one_line, visible
from sil_cli.files import sha256_of_file, writing
from sil_cli.gallery.accountability.log import log_event
from sil_cli.gallery.entry import Time, box_text, in_utc, require_time, stored_box
from sil_cli.gallery.filters import Filter, with_disk_paths
from sil_cli.gallery.people import LONGEST_NAME, Answer, Verdict, in_order, open_people
from sil_cli.gallery.stores import gallery_store, gallery_store_to_write
from sil_cli.people.deciding import Contradiction, decide
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sil_cli.gallery.entry import EntryKey
    from sil_cli.gallery.interface import Gallery
    from sil_cli.gallery.people import People
    from sil_cli.settings import Settings

ENTRY_COLUMNS = ("source", "path", "box")
NEEDED = ("first_path", "second_path", "answer")
FURTHER = ("first_source", "first_box", "second_source", "second_box", "by", "at", "why", "origin", "probability")
COLUMNS = (
    *(f"{side}_{column}" for side in ("first", "second") for column in ENTRY_COLUMNS),
    *("answer", "by", "at", "why", "origin", "probability"),
)
WORDS: dict[str, Answer] = {
    **dict.fromkeys(("same", "yes", "y", "s", "true", "1"), "same"),
    **dict.fromkeys(("different", "no", "n", "d", "false", "0"), "different"),
    **dict.fromkeys(
        ("unsure", "can't tell", "cant tell", "can’t tell", "?", "u", "maybe", "unknown", "not sure"), "unsure"
    ),
    **dict.fromkeys(("don't know", "don’t know", "dont know", "cannot tell", "can not tell"), "unsure"),
    "withdrawn": "withdrawn",
}
"""What people write for an answer."""

_AT_ONCE = 200
_MOST_NAMED = 5


@dataclass(frozen=True)
class JudgedEntry:
    """One of the two entries of a verdict.

    Attributes:
        id: Its number in the gallery; None where it is there no more.
        source, path, box: What names it.
    """

    id: int | None
    source: str
    path: str
    box: Box | None


@dataclass(frozen=True)
class ListedVerdict:
    """What somebody said of two entries.

    Attributes:
        answer: `same`, `different`, `unsure`, or `withdrawn`: what they said before no longer counts.
        by: Who said so; empty for unknown.
        at: When, in UTC.
        why: In their words.
        origin: How it came: `told`, `ask`, `merge`, `import`, …
        probability: With which the pair was drawn to be asked about; None where somebody chose it.
        counts: It is their latest on this pair, and was not withdrawn.
    """

    first: JudgedEntry
    second: JudgedEntry
    answer: Answer
    by: str
    at: Time
    why: str
    origin: str
    probability: float | None
    counts: bool


class VerdictResult(Result):
    """The outcome of `sil people verdict`.

    Attributes:
        verdict: What is kept.
        counting: How many verdicts the gallery has now that count.
        contradictions: How many verdicts contradict others.
    """

    gallery: Path
    verdict: ListedVerdict
    counting: int
    contradictions: int


class VerdictsResult(Result):
    """The outcome of `sil people verdicts`.

    Attributes:
        added: Verdicts that came in from a table; those that were there already don't count.
        left_out: Lines of the table about entries that the gallery has no more.
        verdicts: All that were ever given, oldest first.
        counting: How many of them count, by answer.
        gone: How many are about an entry that the gallery has no more; `sil gallery compact` deletes them.
        contradictions: Why some can't all be right, one line each.
        out: The table that they were written to.
    """

    gallery: Path
    added: int | None = None
    left_out: list[str] = Field(default_factory=list)
    verdicts: list[ListedVerdict]
    counting: dict[str, int]
    gone: int
    contradictions: list[str]
    out: Path | None = None


@contextlib.contextmanager
def changing_people(
    settings: Settings,
    folder: Path,
    event: str,
    details: dict[str, object],
    *,
    by: str | None = None,
    always: bool = False,
) -> Iterator[People]:
    """What people said of a gallery, to be changed in this block: all or nothing, and not before the log says by whom.

    Args:
        settings: With `gallery.log`.
        folder: The gallery's.
        event: What the log calls it.
        details: What the log says of it; the block may add to them.
        by: Who does it; by default the user who runs this process.
        always: It is logged whatever the gallery and the settings want.

    Raises:
        GalleryError: The log can't be written, or the file of people is damaged; nothing is changed then.
    """
    with open_people(folder, write=True) as people, people.transaction():
        yield people
        log_event(settings, folder, event, details, by=by, always=always)


def give_verdict(
    settings: Settings, first: str, second: str, answer: str, *, by: str | None, why: str
) -> VerdictResult:
    """Keep what somebody says of two entries.

    Args:
        settings: Name the gallery.
        first: An entry, by id or by path.
        second: Another one.
        answer: One of WORDS.
        by: Who says so; None: whoever is logged in.
        why: In their words.

    Raises:
        UsageError: An entry is not there, more than one is meant, or the answer is none.
        GalleryError: There is no gallery, or its file of verdicts is damaged.
    """
    said = read_answer(answer)
    store = gallery_store_to_write(settings)
    with store.open() as gallery:
        ids = [find_entry(gallery, text) for text in (first, second)]
        known = gallery.entries(ids)
    pair = in_order(*(known[one].key for one in ids))
    by = judge(by)
    verdict = Verdict(*pair, said, by, datetime.now(UTC), why)
    details: dict[str, object] = {"first": ids[0], "second": ids[1], "answer": said, "why": why, "judge": by}
    with changing_people(settings, store.folder, "verdict", details) as people:
        before = [one.at for one in people.verdicts() if one.pair == pair and one.by == by]
        later = [one + timedelta(microseconds=1) for one in before]  # than what they said, though clocks go back
        verdict = replace(verdict, at=max([verdict.at, *later]))
        people.add_verdicts([verdict])
        standing = people.standing()
    found = {entry.key: number for number, entry in known.items()}
    return VerdictResult(
        gallery=store.folder,
        verdict=list_verdict(verdict, found, counts=said != "withdrawn"),
        counting=len(standing),
        contradictions=len(decide(standing).contradictions),
    )


def list_verdicts(settings: Settings, *, add: Path | None = None, out: Path | None = None) -> VerdictsResult:
    """All verdicts of a gallery, after those of a table have been added, where one is named.

    Args:
        settings: Name the gallery.
        add: A table with NEEDED and some of FURTHER, as `out` writes it.
        out: Where to write all as a table.

    Raises:
        DataError: A line of the table is no verdict, or names no entry of the gallery; nothing is added then.
        GalleryError: There is no gallery, or its file of verdicts is damaged.
    """
    store = (gallery_store if add is None else gallery_store_to_write)(settings)
    added = None
    left_out: list[str] = []
    with store.open() as gallery:
        if add is not None:
            read, left_out = read_table(add, gallery)
            details: dict[str, object] = {"table": sha256_of_file(add)}
            with changing_people(settings, store.folder, "verdict", details) as people:
                there = {(one.pair, one.by, one.answer) for one in people.standing()}
                new = [one for one, dated in read if dated or (one.pair, one.by, one.answer) not in there]
                details["added"] = added = people.add_verdicts(new)
        with open_people(store.folder) as people:
            verdicts, standing = people.verdicts(), people.standing()
        found = find_keys(gallery, {key for one in verdicts for key in one.pair})
    counts = set(standing)
    listed = [list_verdict(one, found, counts=one in counts) for one in verdicts]
    if out is not None:
        log_event(settings, store.folder, "export", {"to": out.name, "of": "verdicts", "count": len(verdicts)})
        _write_table(out, verdicts)
    answers = [one.answer for one in standing]
    return VerdictsResult(
        gallery=store.folder,
        added=added,
        left_out=left_out,
        verdicts=listed,
        counting={answer: answers.count(answer) for answer in get_args(Answer) if answer != "withdrawn"},
        gone=sum(one.first.id is None or one.second.id is None for one in listed),
        contradictions=[in_words(one) for one in decide(standing).contradictions],
        out=out,
    )


def read_answer(text: str) -> Answer:
    """What somebody wrote for an answer.

    Raises:
        UsageError: It is none of WORDS.
    """
    answer = WORDS.get(" ".join(text.lower().split()))
    if answer is None:
        raise UsageError(
            f"'{visible(text[:LONGEST_NAME])}' is not a verdict.", "Answer same, different, unsure, or withdrawn."
        )
    return answer


def judge(by: str | None) -> str:
    """Who gives a verdict: whoever is named, or whom the system says is logged in; '' where it doesn't say."""
    if by is not None:
        return by
    try:
        return getpass.getuser()[:LONGEST_NAME]
    except (OSError, KeyError, ImportError):
        return ""


def find_entry(gallery: Gallery, text: str) -> int:
    """The id of the entry that somebody means by an id or a path.

    Raises:
        UsageError: There is none, or more than one.
    """
    if text.isascii() and text.isdigit():
        if len(text) < 17 and gallery.entries([int(text)]):
            return int(text)
        raise UsageError(f"The gallery has no entry {text[:LONGEST_NAME]}.", _HOW_TO_LIST)
    meant = with_disk_paths(Filter(paths=(text,)), gallery.folder, gallery.known_values("source", 10_000))
    found = sorted({one for where in meant for one in gallery.ids_passing(where).tolist()})
    if not found:
        raise UsageError(f"The gallery has no entry '{visible(text[:LONGEST_NAME])}'.", _HOW_TO_LIST)
    if len(found) > 1:
        ids = ", ".join(map(str, found[:_MOST_NAMED])) + (", …" if len(found) > _MOST_NAMED else "")
        raise UsageError(f"'{visible(text[:LONGEST_NAME])}' is {len(found):,} entries.", f"Name one by its id: {ids}.")
    return int(found[0])


_HOW_TO_LIST = "Name it by its id or path; `sil gallery export list.csv` lists all entries."


def find_keys(gallery: Gallery, keys: Iterable[EntryKey]) -> dict[EntryKey, int]:
    """Those of some entries that the gallery has, each with its id."""
    wanted = set(keys)
    paths = sorted({path for _, path, _ in wanted})
    found: dict[EntryKey, int] = {}
    for start in range(0, len(paths), _AT_ONCE):
        ids = gallery.ids_passing(Filter(paths=tuple(paths[start : start + _AT_ONCE]))).tolist()
        found |= {entry.key: one for one, entry in gallery.entries(ids).items() if entry.key in wanted}
    return found


def in_words(contradiction: Contradiction) -> str:
    """Why verdicts can't all be right, on one line."""
    apart = contradiction.different[0]
    judges = {one.by or "somebody" for one in contradiction.different}
    chain = [f"{_short(one.first)} = {_short(one.second)} ({one.by or 'somebody'})" for one in contradiction.same]
    more = [f"and {len(chain) - _MOST_NAMED} more"] if len(chain) > _MOST_NAMED else []
    return visible(
        f"{_short(apart.first)} and {_short(apart.second)} are different people ({', '.join(sorted(judges))}), "
        f"but the same by {', '.join(chain[:_MOST_NAMED] + more)}"
    )


def _short(key: EntryKey) -> str:
    _, path, box = key
    return path if box is None else f"{path} {','.join(map(str, box))}"


def list_verdict(one: Verdict, found: Mapping[EntryKey, int], *, counts: bool) -> ListedVerdict:
    """A verdict with the numbers of its entries, of those that are found in the gallery."""
    first, second = (JudgedEntry(found.get(key), *key) for key in one.pair)
    return ListedVerdict(
        first, second, one.answer, one.by, in_utc(one.at), one.why, one.origin, one.probability, counts
    )


def _write_table(out: Path, verdicts: Sequence[Verdict]) -> None:
    with writing(out) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        table = csv.writer(text)
        table.writerow(COLUMNS)
        for one in verdicts:
            sides = [cell for source, path, box in one.pair for cell in (source, path, box_text(box))]
            rest = (one.answer, one.by, one.at.isoformat(), one.why, one.origin)
            probability = "" if one.probability is None else repr(one.probability)
            table.writerow([*map(as_cell, (*sides, *rest)), probability])
        text.flush()
        text.detach()


def read_table(table: Path, gallery: Gallery) -> tuple[list[tuple[Verdict, bool]], list[str]]:
    """The verdicts of a table, each with whether it says when it was given; and the lines about what is gone.

    Raises:
        DataError: A line is none, or names no entry of the gallery by its path alone.
    """
    now = datetime.now(UTC)
    find = _Finder(gallery)
    verdicts: list[tuple[Verdict, bool]] = []
    gone: list[str] = []
    for line, cells in read_rows(table, lambda columns: require_columns(table, columns, NEEDED, FURTHER)):
        if not cells.get("answer", "").strip():
            continue  # not answered yet
        try:
            first, second = find.key(cells, "first"), find.key(cells, "second")
            if first is None or second is None:
                gone.append(f"line {line}: {cells.get('first_path', '')}, {cells.get('second_path', '')}")
            else:
                verdicts.append((_verdict_of(cells, first, second, now), bool(cells.get("at"))))
        except (SilError, ValueError) as error:
            what = error.what if isinstance(error, SilError) else f"{one_line(error)}."
            fix = error.fix if isinstance(error, SilError) else "Correct this line, or leave it out."
            raise DataError(f"{table}, line {line}: {what}", fix) from error
    return verdicts, gone


class _Finder:
    """Finds entries as tables name them."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._known: dict[tuple[str, str, str], EntryKey | None] = {}

    def key(self, cells: Mapping[str, str], side: str) -> EntryKey | None:
        """The entry of one side: by source, path and box to the letter, None where it is gone; or by path or id alone.

        Raises:
            UsageError: A path or an id alone names none, or more than one.
            ValueError: The box is none.
        """
        source, path, box = (cells.get(f"{side}_{column}", "") for column in ENTRY_COLUMNS)
        if (source, path, box) not in self._known:
            self._known[source, path, box] = self._find(source, path, box)
        return self._known[source, path, box]

    def _find(self, source: str, path: str, box: str) -> EntryKey | None:
        if source:
            key = source, path, stored_box(box)
            return key if key in find_keys(self._gallery, [key]) else None
        one = find_entry(self._gallery, path)
        return self._gallery.entries([one])[one].key


def _verdict_of(cells: Mapping[str, str], first: EntryKey, second: EntryKey, now: datetime) -> Verdict:
    at = in_utc(datetime.fromisoformat(cells["at"])) if cells.get("at") else now
    require_time(at)
    probability = float(cells["probability"].replace(",", ".")) if cells.get("probability") else None
    origin = cells.get("origin") or "import"
    return Verdict(
        first, second, read_answer(cells["answer"]), cells.get("by", ""), at, cells.get("why", ""), origin, probability
    )
