"""The log of who searched what in a gallery: append-only, each line sealed with the hash of the one before.

`access.jsonl` holds one JSON object a line; `access.head` says how many there are, how many bytes they take, and the
hash of the last, so that lines which are missing at the end are noticed as well. A line is written and flushed to disk
before what it tells of is answered. Whoever can write to the folder can also write both files anew: keep the head
(`sil gallery log --verify` prints it) elsewhere, and `--known HASH` says whether the log still holds it.

Lines whose own time is over are cut off at the beginning (`cut_log`). A line says so, and which hash the last of them
had: the chain begins there from then on, and `--verify` still proves the rest.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sil_cli.errors import GalleryError, one_line, visible
from sil_cli.files import MOST_LINES, access_as, lock, open_no_link, parse_json, replacing, sync_folder
from sil_cli.gallery.accountability.policy import policy_of, read_policy
from sil_cli.gallery.results import LogLine, LogResult
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from sil_cli.settings import Settings

LOG_FILE, HEAD_FILE = "access.jsonl", "access.head"
OF_A_LOG = (HEAD_FILE, LOG_FILE)
DRAWING, CUT = "drawing", "cut"
"""The events of a sheet or a page that was written, and of lines that were cut off."""

FIRST = "0" * 64
"""What stands in the place of the hash before the first line."""

_SEAL = b',"hash":"%s"}\n'
_SEAL_LENGTH = len(_SEAL) - 2 + 64
_LONGEST_LINE = 2**24
_HEAD_BYTES = 256
_LOST = (
    f"Find out who changed it. To go on, move {LOG_FILE} and {HEAD_FILE} elsewhere as evidence, and begin a new log "
    "with `sil gallery policy --log`."
)


class _Head(Result):
    """What `access.head` says.

    Attributes:
        lines: How many were ever written.
        bytes: How long the file is.
        hash: Of the last line.
        cut: How many of the lines were cut off.
        anchor: The hash of the last of those.
    """

    lines: int
    bytes: int
    hash: str
    cut: int = 0
    anchor: str = FIRST


def os_user() -> str:
    """Who runs this process, as the machine knows them."""
    try:
        import pwd
    except ImportError:  # Windows
        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def log_event(
    settings: Settings,
    folder: Path,
    event: str,
    details: Mapping[str, object],
    *,
    by: str | None = None,
    always: bool = False,
) -> None:
    """Write down what is about to be shown or has been done, where the gallery or the settings want a log.

    Args:
        settings: With `gallery.log`.
        folder: The gallery's.
        event: A word for it.
        details: JSON values.
        by: Who does it; by default the user who runs this process.
        always: Whatever the gallery and the settings want.

    Raises:
        GalleryError: The log can't be written, or was changed: nothing may be shown then.
    """
    if not always and not policy_of(settings, folder).log:
        return
    if not has_log(folder) and read_policy(folder).log:
        raise GalleryError(f"{folder / LOG_FILE} is missing: the gallery is logged, and its log has been begun.", _LOST)
    append(folder, event, by if by is not None else os_user(), details)


def append(folder: Path, event: str, by: str, details: Mapping[str, object]) -> str:
    """Write one line, whole and flushed to disk, behind the last; returns its hash.

    Several processes may do so at once. A line that a power cut left unfinished is cut off first: nothing was shown.

    Raises:
        GalleryError: The log can't be written, or its end is not the one that was written last.
    """
    with _locked(folder) as handle:
        return _append(folder, handle, _present_head(folder, handle), event, by, details).hash


def _append(folder: Path, handle: int, head: _Head, event: str, by: str, details: Mapping[str, object]) -> _Head:
    """Write one line behind the last; returns what the head is then."""
    line = {
        "number": head.lines + 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "by": visible(by),
        "details": _harmless(details),
        "previous": head.hash,
    }
    body = json.dumps(line, separators=(",", ":"), allow_nan=False).encode("ascii")
    digest = hashlib.sha256(body).hexdigest()
    content = body[:-1] + _SEAL % digest.encode()
    if len(content) > _LONGEST_LINE:
        raise GalleryError("What was found is too much for one line of the log.", "Ask for less at once.")
    after = head.model_copy(update={"lines": head.lines + 1, "bytes": head.bytes + len(content), "hash": digest})
    try:
        _write_all(handle, content, head.bytes)
        os.fsync(handle)
        _write_head(folder, after)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, head.bytes)
        raise _unwritable(folder, error) from error
    return after


def cut_log(folder: Path, before: datetime, by: str, *, needed: Callable[[LogLine], bool]) -> int:
    """Cut off the lines that were written before a moment, and say so in the log.

    A kill at any moment leaves the log as it was, or cut.

    Args:
        folder: The gallery's.
        before: Everything from the first line that is not older stays.
        by: Who cuts.
        needed: Says of a line whether what it says is still needed: it is written once more then, at the end.

    Returns:
        How many lines were cut off.

    Raises:
        GalleryError: The log can't be written; or it isn't as it was written, and would be evidence.
    """
    if not has_log(folder) or _is_empty(folder):
        return 0
    with _locked(folder) as handle:
        head = _present_head(folder, handle)
        content = _read_all(handle)
        old: list[LogLine] = []
        length = 0
        for line in content.splitlines(keepends=True):
            parsed = _parsed(line)
            if parsed is None or datetime.fromisoformat(parsed.time) >= before:
                break
            old.append(parsed)
            length += len(line)
        if not old:
            return 0
        chain = _Chain(head)
        chain.follow(content)
        if chain.problem is not None:
            raise GalleryError(f"{folder / LOG_FILE} is not as it was written: {chain.problem}.", _LOST)
        cut = {"cut": head.cut + len(old), "anchor": old[-1].hash}
        for one in filter(needed, old):
            head = _append(folder, handle, head, one.event, by, one.details)
        head = _append(folder, handle, head, CUT, by, {"lines": cut["cut"], "last": cut["anchor"]})
        try:
            with access_as(handle), replacing(folder / LOG_FILE) as stream:
                with contextlib.suppress(OSError, AttributeError):  # a job of root's leaves it to whose it is
                    os.fchown(stream.fileno(), os.fstat(handle).st_uid, os.fstat(handle).st_gid)
                stream.write(_read_all(handle)[length:])
            _write_head(folder, head.model_copy(update={**cut, "bytes": head.bytes - length}))
        except OSError as error:
            raise _unwritable(folder, error) from error
    return len(old)


def has_log(folder: Path) -> bool:
    """Whether anything was ever logged here, as far as the files say."""
    return os.path.lexists(folder / LOG_FILE) or os.path.lexists(folder / HEAD_FILE)


@contextlib.contextmanager
def holding_still(folder: Path) -> Iterator[None]:
    """Keep all others from writing to the log, where there is one, as while the gallery's folder is replaced."""
    if not has_log(folder):
        yield
        return
    with _locked(folder):
        yield


def read_log(folder: Path, *, last: int | None, verify: bool, known: str | None = None) -> LogResult:
    """The lines of a gallery's log, and whether they are all there as they were written.

    Args:
        folder: The gallery's.
        last: How many lines, counted from the end; None for all.
        verify: Follow the whole chain, and compare its end with `access.head`.
        known: A hash that was printed earlier, which the log must still hold.

    Raises:
        GalleryError: The log can't be read.
    """
    if not has_log(folder) or _is_empty(folder):
        return LogResult(gallery=folder, lines=[], total=0, cut=0, head=None, verified=verify, ok=True)
    with _locked(folder, write=False) as handle:
        if os.fstat(handle).st_size > MOST_LINES:  # a file full of holes has a terabyte
            raise GalleryError(f"{folder / LOG_FILE} has more than {MOST_LINES:,} bytes.", _LOST)
        content = _read_all(handle)
        head, problem = None, None
        try:
            head = _read_head(folder)
        except GalleryError as error:
            problem = error.what
    whole = content.rfind(b"\n") + 1
    head = _after_cut(content, head) or head
    chain = _Chain(head, known)
    if verify:
        chain.follow(content[:whole])
        problem = chain.problem or problem
    lines = content[:whole].splitlines()
    shown = [_parsed(line) for line in (lines if last is None else lines[-last:] if last else [])]
    if verify and known is not None and problem is None and not chain.holds_known:
        cut = f"; the first {head.cut:,} were cut off after their time" if head is not None and head.cut else ""
        problem = f"no line has the hash {known}{cut}"
    return LogResult(
        gallery=folder,
        lines=[line for line in shown if line is not None],
        total=len(lines),
        cut=head.cut if head is not None else 0,
        head=chain.previous if verify and lines else head.hash if head is not None and head.lines else None,
        verified=verify,
        ok=problem is None,
        wrong_line=chain.wrong_line,
        problem=problem,
        holds_known=chain.holds_known if verify and known is not None else None,
    )


class _Chain:
    """Follows a log from its first line on.

    Args:
        head: What should be there, as far as that is known.
        known: A hash that was printed earlier.

    Attributes:
        previous: The hash of the last line that is right.
        wrong_line: The first that is not; None where all are.
        problem: What is wrong with it.
        holds_known: Whether a line has the known hash, or had it that was the last to be cut off.
    """

    def __init__(self, head: _Head | None, known: str | None = None) -> None:
        self._head, self._known = head, known
        self.previous = head.anchor if head is not None else FIRST
        self.wrong_line, self.problem, self.holds_known = None, None, known is not None and known == self.previous
        self._tells_of_cut = head is None or not head.cut

    wrong_line: int | None
    problem: str | None

    def follow(self, content: bytes) -> None:
        """Look at every line, and at where the last one should be."""
        head = self._head
        before = head.cut if head is not None else 0
        number, at_head = before, before
        for number, line in enumerate(content.splitlines(keepends=True), start=before + 1):
            why = self.take(number, line)
            if why is not None:
                self.wrong_line, self.problem = number, f"line {number}: {why}"
                return
            if head is not None and number == head.lines and self.previous == head.hash:
                at_head = number
        if head is not None and number < head.lines:
            self.wrong_line = number + 1
            self.problem = f"line {number + 1} is missing: {head.lines:,} were written, {number:,} are there"
        elif head is not None and head.lines and at_head != head.lines:
            self.wrong_line, self.problem = head.lines, f"line {head.lines}: it is not the one that was written there"
        elif head is not None and not self._tells_of_cut:
            self.wrong_line, self.problem = (
                1,
                f"the first {head.cut:,} lines are missing, and no line says they were cut",
            )

    def take(self, number: int, line: bytes) -> str | None:
        """Go on by a line; says what is wrong with it, if anything."""
        body, seal = line[:-_SEAL_LENGTH] + b"}", line[-_SEAL_LENGTH:]
        digest = hashlib.sha256(body).hexdigest()
        if seal != _SEAL % digest.encode():
            return "its content is not what its hash was made of"
        parsed = _parsed(line)
        if parsed is None:
            return "it is not a line of a log"
        if parsed.number != number or parsed.previous != self.previous:
            return "the line that was before it is changed or missing"
        self.previous = digest
        self.holds_known |= digest == self._known
        head = self._head
        if head is not None and parsed.event == CUT:
            self._tells_of_cut |= parsed.details == {"lines": head.cut, "last": head.anchor}
        return None


def _after_cut(content: bytes, head: _Head | None) -> _Head | None:
    """The head of a log that was cut when somebody was killed before the head said so; None for any other."""
    first = _parsed(content[: content.find(b"\n") + 1]) if head is not None and len(content) < head.bytes else None
    if head is None or first is None or first.number <= head.cut + 1:
        return None
    update = {"cut": first.number - 1, "anchor": first.previous, "bytes": len(content)}
    after = head.model_copy(update=update)
    chain = _Chain(after)
    chain.follow(content)
    return after if chain.problem is None else None


def _is_empty(folder: Path) -> bool:
    """Whether a log was begun, and nothing was written to it yet."""
    with contextlib.suppress(GalleryError):
        return not (folder / LOG_FILE).exists() and _read_head(folder).lines == 0
    return False


def _parsed(line: bytes) -> LogLine | None:
    try:
        return LogLine.model_validate(parse_json(line.decode("ascii")))
    except (ValueError, ValidationError):
        return None


def _harmless(value: object) -> object:
    """JSON values whose texts hold nothing that a terminal or a reader's eye would obey."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): _harmless(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(each) for each in value]
    return value


@contextlib.contextmanager
def _locked(folder: Path, *, write: bool = True) -> Iterator[int]:
    """The open log, which nobody else writes to; made where there is none and it is to be written."""
    flags = (os.O_RDWR | os.O_CREAT) if write else os.O_RDONLY
    path = folder / LOG_FILE
    while True:
        try:
            if write and not has_log(folder):
                _write_head(folder, _Head(lines=0, bytes=0, hash=FIRST))
            handle = open_no_link(path, flags)
        except FileNotFoundError as error:
            raise GalleryError(f"{path} is missing, and {HEAD_FILE} beside it is not.", _LOST) from error
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            lock(handle, shared=not write, wait=True)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):  # not put elsewhere while we waited
                    yield handle
                    return
        finally:
            os.close(handle)


def _present_head(folder: Path, handle: int) -> _Head:
    """What was written last; a line that is whole and not yet in the head is taken, an unfinished one is cut off."""
    head = _read_head(folder)
    size = os.fstat(handle).st_size
    if size < head.bytes:
        after = _after_cut(_read_all(handle), head)
        if after is not None:
            return after
        raise GalleryError(f"{folder / LOG_FILE} is shorter than it was: lines at its end are missing.", _LOST)
    if size == head.bytes:
        return head
    if size - head.bytes > _LONGEST_LINE:
        raise GalleryError(f"{folder / LOG_FILE} is longer than what was written to it.", _LOST)
    tail = os.pread(handle, size - head.bytes, head.bytes)
    whole = tail[: tail.rfind(b"\n") + 1]
    chain = _Chain(None)
    chain.previous = head.hash
    for number, line in enumerate(whole.splitlines(keepends=True), start=head.lines + 1):
        why = chain.take(number, line)
        if why is not None:
            raise GalleryError(f"{folder / LOG_FILE}, line {number}: {why}.", _LOST)
        update = {"lines": number, "bytes": head.bytes + len(line), "hash": chain.previous}
        head = head.model_copy(update=update)
    if head.bytes < size:
        os.ftruncate(handle, head.bytes)
    return head


def _read_head(folder: Path) -> _Head:
    path = folder / HEAD_FILE
    try:
        handle = open_no_link(path, os.O_RDONLY)
    except FileNotFoundError:
        raise GalleryError(f"{path} is missing, and {LOG_FILE} beside it is not.", _LOST) from None
    except OSError as error:
        raise GalleryError(f"{path} can't be read: {one_line(error)}.", _LOST) from error
    try:
        content = os.read(handle, _HEAD_BYTES + 1)
        head = _Head.model_validate(parse_json(content.decode("ascii")))
    except (OSError, ValueError) as error:
        raise GalleryError(f"{path} is damaged: it doesn't say where the log ends.", _LOST) from error
    finally:
        os.close(handle)
    if min(head.lines, head.bytes, head.cut) < 0 or {len(head.hash), len(head.anchor)} != {len(FIRST)}:
        raise GalleryError(f"{path} is damaged: it doesn't say where the log ends.", _LOST)
    return head


def _write_head(folder: Path, head: _Head) -> None:
    """Write it over the one before: always as long, and shorter than what a disk writes at once."""
    handle = open_no_link(folder / HEAD_FILE, os.O_RDWR | os.O_CREAT)
    try:
        text = json.dumps(head.model_dump()).encode("ascii")
        is_new = not os.fstat(handle).st_size
        _write_all(handle, text.ljust(_HEAD_BYTES - 1) + b"\n", 0)
        os.fsync(handle)
    finally:
        os.close(handle)
    if is_new:
        sync_folder(folder)


def _write_all(handle: int, content: bytes, at: int) -> None:
    while content:
        written = os.pwrite(handle, content, at)
        content, at = content[written:], at + written


def _read_all(handle: int) -> bytes:
    size = os.fstat(handle).st_size
    parts, at = [], 0
    while at < size:
        part = os.pread(handle, min(size - at, 2**24), at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _unwritable(folder: Path, error: OSError) -> GalleryError:
    return GalleryError(
        f"{folder / LOG_FILE} can't be written: {one_line(error)}. Nothing is shown that isn't logged.",
        "Let it be written: check the folder's permissions and the room on its disk.",
    )
