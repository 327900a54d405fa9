"""What the commands of `sil gallery` return: the documents that `--json` prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from sil_cli.data.manifest import Skipped
from sil_cli.evaluation.calibration import Chance
from sil_cli.models.record import ModelCard
from sil_cli.results import Result

if TYPE_CHECKING:
    from sil_cli.gallery.entry import GalleryEntry


MOST_DAYS = 36_500.0
Days = Annotated[float, Field(gt=0.0, le=MOST_DAYS, allow_inf_nan=False)]
Words = Annotated[str, Field(min_length=1, max_length=2000)]


class Policy(Result):
    """What a gallery is for, and what holds for whoever uses it.

    Attributes:
        purpose: What it is kept for, in words; None where nobody said.
        legal_basis: By which law or consent, in words; None where nobody said.
        log: Searches, removals and exports are logged.
        require_purpose: Every search must say what it is for.
        keep_days: Entries taken longer ago than this are removed; None: they are kept.
        camera_keep_days: The same for some cameras, by their names.
        log_keep_days: Lines of the log that are older than this are cut off; None: they are kept.
    """

    purpose: Words | None = None
    legal_basis: Words | None = None
    log: bool = False
    require_purpose: bool = False
    keep_days: Days | None = None
    camera_keep_days: dict[str, Days] = Field(default_factory=dict)
    log_keep_days: Days | None = None

    @property
    def expires(self) -> bool:
        """Whether anything is removed by its age."""
        return self.keep_days is not None or bool(self.camera_keep_days)


class IndexCounts(BaseModel):
    """What one run of `sil index-gallery` did; counts are of entries unless they say images.

    Attributes:
        added: New ones.
        unchanged: Those that stood as they are.
        replaced: Those whose files changed.
        described: Those of which something else is known now, whose files have not changed.
        absorbed: Those that became a part of a tracklet, or were its earlier self.
        embedded: Images that went through the network.
    """

    added: int = 0
    unchanged: int = 0
    replaced: int = 0
    described: int = 0
    absorbed: int = 0
    embedded: int = 0


class IndexResult(IndexCounts):
    """The outcome of `sil index-gallery`; counts are of entries unless they say images.

    Attributes:
        failed: Images that could not be used.
        gone: Images whose files are missing.
        pruned: Those of them whose entries were removed.
        expired: Entries that were removed because they are older than the gallery keeps them.
        too_old: Images that were left out for the same reason.
        warnings: What looked odd, one line each.
        example: An image worth querying with, where the data set has queries.
        calibrated: Whether the gallery's model comes with thresholds.
        chance: What comes up by chance in this gallery; None where it is too small to tell.
        option: What names this gallery in another command.
        total: Entries that the gallery holds now.
        index: How it is searched.
        model: The fingerprint of the model whose embeddings it holds.
    """

    model_config = Result.model_config

    gallery: Path
    failed: list[Skipped]
    gone: list[str] = Field(default_factory=list)
    pruned: int = 0
    expired: int = 0
    too_old: int = 0
    warnings: list[str] = Field(default_factory=list)
    total: int
    dimension: int
    index: str
    model: str
    example: Path | None
    calibrated: bool = False
    chance: Chance | None = None
    option: str = ""


@dataclass(frozen=True)
class Removal:
    """One removal in a gallery's log; who was removed is not in it.

    Attributes:
        criterion: The kinds of what the entries were chosen by, such as `camera, before`.
    """

    time: str
    count: int
    criterion: str


class GalleryInfo(Result):
    """The outcome of `sil gallery info`.

    Attributes:
        index: How it is searched, and what was measured of that.
        wished_index: `auto`, `exact`, or FAISS's name of the index that was asked for.
        files: Files of vectors.
        store: Where the entries are when not in the folder.
        bytes: Of the whole folder; None where a server keeps the entries.
        cameras, identities, metadata: How many there are, and the names of further metadata; None where a collection
            is too large to be counted through.
        entries: How many there are.
        earliest, latest: Times of entries, ISO 8601; None where none is known.
        model: The fingerprint of the model whose embeddings it holds.
        card: Where that model came from; None for one that was trained here.
        removals: The log of what was removed.
        policy: What the gallery is for, and what holds for whoever uses it.
    """

    gallery: Path
    store: str | None = None
    format: int
    entries: int
    dimension: int
    index: str
    wished_index: str
    files: int
    bytes: int | None = None
    cameras: int | None = None
    identities: int | None = None
    metadata: list[str]
    earliest: str | None = None
    latest: str | None = None
    model: str
    card: ModelCard | None = None
    removals: list[Removal]
    policy: Policy = Policy()


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `found` is one line.

    Attributes:
        done: False where it wasn't looked at after all, for the reason that `found` says; `ok` means nothing then.
    """

    name: str
    ok: bool
    found: str
    done: bool = True


class VerifyResult(Result):
    """The outcome of `sil gallery verify`.

    Attributes:
        ok: No check found anything wrong.
        advice: What helps against what is wrong.
    """

    gallery: Path
    ok: bool
    checks: list[Check]
    advice: list[str]


class LostEntry(Result):
    """An entry that `repair` had to drop, or that `rebuild` can't embed."""

    id: int
    source: str
    path: str
    reason: str


def lost_entry(identifier: int, entry: GalleryEntry, reason: str) -> LostEntry:
    """An entry with what happened to it."""
    return LostEntry(id=identifier, source=entry.source, path=entry.path, reason=reason)


class RepairResult(Result):
    """The outcome of `sil gallery repair`.

    Attributes:
        files: Each file that was dropped or accepted, with what happened to it.
        set_aside: Where files are now that were dropped, or that the database doesn't know; `compact` deletes them.
        lost: Entries that had to be dropped.
        again: The commands that bring them back, where their images are still there.
    """

    gallery: Path
    files: dict[str, str]
    set_aside: list[Path]
    lost: list[LostEntry]
    again: list[str]
    index_rebuilt: bool
    database_mended: bool
    entries: int


class CompactResult(Result):
    """The outcome of `sil gallery compact`.

    Attributes:
        set_aside_deleted: How many files, set aside earlier, were deleted.
        verdicts_deleted: How many verdicts were about entries that are gone, and were deleted.
        complete: No trace of removed entries is left; false while a reader holds on to an older state.
        drawings_deleted: Sheets and pages that showed somebody who is gone, as far as the gallery's log names them.
    """

    gallery: Path
    entries: int
    bytes_before: int | None
    bytes_after: int | None
    set_aside_deleted: int
    verdicts_deleted: int = 0
    complete: bool
    drawings_deleted: list[Path] = Field(default_factory=list)


class RemoveResult(Result):
    """The outcome of `sil gallery remove`.

    Attributes:
        not_found: What was named and no entry is, such as `id 3`.
        verdicts: How many verdicts are about removed entries; `sil gallery compact` deletes them.
    """

    gallery: Path
    removed: int
    not_found: list[str]
    entries: int
    verdicts: int = 0


class ExportResult(Result):
    """The outcome of `sil gallery export`; `files` are those that were written."""

    gallery: Path
    entries: int
    files: list[Path]


class RebuildResult(Result):
    """The outcome of `sil gallery rebuild`.

    Attributes:
        embedded: In this run; others had been done before it was interrupted.
        dropped: Entries that could not be embedded and were left out, as was asked for.
    """

    gallery: Path
    entries: int
    embedded: int
    dropped: list[LostEntry]
    old_model: str
    model: str
    index: str


@dataclass(frozen=True)
class MeasuredIndex:
    """One way of searching; rates and times are of this machine at that moment.

    Attributes:
        index: FAISS's name of it, or `exact`.
        effort: nprobe or efSearch; 0 for neither.
        recall: recall@10 against exact search.
        queries_per_second: 256 at once.
        milliseconds: For one query on its own.
        speedup: Of many queries, against exact search.
    """

    index: str
    effort: int
    recall: float
    queries_per_second: float
    milliseconds: float
    speedup: float


class TuneResult(Result):
    """The outcome of `sil gallery tune`; `chosen` is what the gallery uses from now on."""

    gallery: Path
    wished_recall: float
    measured: list[MeasuredIndex]
    chosen: MeasuredIndex


class CopyResult(Result):
    """The outcome of `sil gallery copy`.

    Attributes:
        origin, target: As messages call them.
        copied: Entries that came into the target.
        there: Those that were there already.
        entries: All that the target holds now.
        checked: Those whose vector and description were compared afterwards.
        verdicts: Verdicts of people that came into the target.
        model: Its fingerprint.
        option: What names the target in another command.
    """

    origin: str
    target: str
    copied: int
    there: int
    entries: int
    checked: int
    verdicts: int = 0
    model: str
    option: str


class PolicyResult(Result):
    """The outcome of `sil gallery policy`.

    Attributes:
        policy: What holds from now on.
        changed: What was changed, by the names of its parts.
    """

    gallery: Path
    policy: Policy
    changed: list[str]


class ExpireResult(Result):
    """The outcome of `sil gallery expire`.

    Attributes:
        expired: Entries that were removed, or would be with `--dry-run`.
        undated: Entries whose time is not known, so that nothing says when they expire; they stay.
        entries: All that are left.
        dry_run: Nothing was removed.
        complete: No trace of removed entries is left; false while a reader holds on to an older state.
        cut: Lines that were cut off the log.
    """

    gallery: Path
    expired: int
    undated: int
    entries: int
    dry_run: bool
    complete: bool
    cut: int


class LogLine(Result):
    """One line of a gallery's log.

    Attributes:
        number: From 1, also where lines before it were cut off.
        time: ISO 8601, in UTC.
        event: `search`, `verdict`, `removal`, `export`, `policy`, …
        by: Who did it: a user of this machine, or whoever a server let in.
        details: What was done. Of a search: the SHA-256 of each query image, the entries that were searched for, the
            filter, the entries that were shown, and what it was for.
        previous: The hash of the line before.
        hash: The SHA-256 of this line without its end, from `,"hash"` on, and with `}` in its place.
    """

    number: int
    time: str
    event: str
    by: str
    details: dict[str, Any]
    previous: str
    hash: str


class LogResult(Result):
    """The outcome of `sil gallery log`.

    Attributes:
        lines: The last ones, oldest first; all of them with `--all`.
        total: How many there are.
        cut: How many were cut off at the beginning, when their time was over.
        head: The hash of the last line; None where there is none.
        verified: Whether the chain was followed.
        ok: Nothing was found wrong.
        wrong_line: The first line that is changed or missing, from 1; None where all are right.
        problem: What is wrong with it.
        holds_known: Whether the hash that was given by `--known` stands in the log; None where none was given.
    """

    gallery: Path
    lines: list[LogLine]
    total: int
    cut: int
    head: str | None
    verified: bool
    ok: bool
    wrong_line: int | None = None
    problem: str | None = None
    holds_known: bool | None = None
