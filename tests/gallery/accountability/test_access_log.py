"""The log of who searched what: what is done to it is noticed, and nothing that happens to a process breaks it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from sil_cli.errors import GalleryError
from sil_cli.gallery.accountability import log as access_log
from sil_cli.gallery.accountability.log import DRAWING, HEAD_FILE, LOG_FILE, append, cut_log, read_log

WRITER = """
import sys
from pathlib import Path
from sil_cli.gallery.accountability.log import append
for number in range(int(sys.argv[2])):
    print(append(Path(sys.argv[1]), "search", sys.argv[3], {"shown": [number]}), flush=True)
"""


def write(folder, lines=5):
    for number in range(lines):
        append(folder, "search", "ann", {"purpose": f"case {number}", "shown": [1, 2]})
    return (folder / LOG_FILE).read_bytes()


def verify(folder, **options):
    return read_log(folder, last=None, verify=True, **options)


def start_writer(folder, count, name):
    words = [sys.executable, "-c", WRITER, str(folder), str(count), name]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_each_line_is_sealed_with_the_hash_of_the_one_before(tmp_path) -> None:
    content = write(tmp_path)
    previous = "0" * 64
    for number, line in enumerate(content.decode().splitlines(), start=1):  # by nothing but the page's description
        begin, _, seal = line.rpartition(',"hash":"')
        assert seal == f'{hashlib.sha256(f"{begin}}}".encode()).hexdigest()}"}}'
        document = json.loads(line)
        assert (document["number"], document["previous"]) == (number, previous)
        previous = document["hash"]
    result = verify(tmp_path)
    assert (result.ok, result.total, result.head) == (True, 5, previous)
    assert (tmp_path / LOG_FILE).stat().st_mode & 0o111 == 0


@pytest.mark.thorough
def test_any_changed_byte_is_noticed_and_the_first_such_line_named(tmp_path) -> None:
    content = write(tmp_path, 3)
    starts = [0, *(at + 1 for at, byte in enumerate(content) if byte == 10)]
    for at in range(0, len(content), 7):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / LOG_FILE).write_bytes(changed)
        result = verify(tmp_path)
        line = sum(start <= at for start in starts)
        assert not result.ok
        assert result.wrong_line in (line, line + 1), at  # a line end that is gone joins two lines
        assert result.problem


@pytest.mark.parametrize(
    ("kept", "wrong"), [([0, 1, 3, 4], 3), ([1, 2, 3, 4], 1), ([0, 1, 2, 3], 5), ([0], 2), ([], 1)]
)
def test_a_missing_line_is_named_also_at_the_end(kept, wrong, tmp_path) -> None:
    lines = write(tmp_path).splitlines(keepends=True)
    (tmp_path / LOG_FILE).write_bytes(b"".join(lines[at] for at in kept))
    result = verify(tmp_path)
    assert (result.ok, result.wrong_line) == (False, wrong)
    with pytest.raises(GalleryError, match=r"lines at its end are missing|is not"):
        append(tmp_path, "search", "ann", {})


@pytest.mark.parametrize(
    ("name", "said"), [(LOG_FILE, "lines at its end are missing"), (HEAD_FILE, r"access\.head is missing")]
)
def test_a_log_or_its_head_that_is_gone_stops_whoever_would_go_on(name, said, tmp_path) -> None:
    write(tmp_path)
    (tmp_path / name).unlink()
    with contextlib.suppress(GalleryError):
        assert not verify(tmp_path).ok
    with pytest.raises(GalleryError, match=said):
        append(tmp_path, "search", "ann", {})


def test_a_log_that_was_written_anew_lacks_the_head_that_somebody_kept(tmp_path) -> None:
    write(tmp_path)
    known = verify(tmp_path).head
    write(tmp_path, 1)
    assert verify(tmp_path, known=known).holds_known
    for name in (LOG_FILE, HEAD_FILE):
        (tmp_path / name).unlink()
    write(tmp_path, 6)
    result = verify(tmp_path, known=known)
    assert not result.ok
    assert result.holds_known is False


def test_a_line_that_a_power_cut_left_unfinished_is_cut_off_and_one_that_is_whole_is_kept(tmp_path) -> None:
    content = write(tmp_path)
    head = (tmp_path / HEAD_FILE).read_bytes()
    append(tmp_path, "search", "ann", {"shown": [9]})
    whole = (tmp_path / LOG_FILE).read_bytes()
    (tmp_path / HEAD_FILE).write_bytes(head)  # the line was flushed, its head was not
    assert verify(tmp_path).ok
    (tmp_path / LOG_FILE).write_bytes(whole + b'{"number":7,"time":"20')
    append(tmp_path, "search", "bob", {})
    result = verify(tmp_path)
    assert (result.ok, result.total) == (True, 7)
    assert [line.by for line in result.lines] == ["ann"] * 6 + ["bob"]
    assert (tmp_path / LOG_FILE).read_bytes().startswith(content)


@pytest.mark.thorough
def test_several_processes_write_one_log(tmp_path) -> None:
    writers = [start_writer(tmp_path, 40, name) for name in ("ann", "bob", "eve")]
    said = [hash_ for each in writers for hash_ in each.communicate()[0].split()]
    result = verify(tmp_path)
    assert (result.ok, result.total) == (True, 120)
    assert {line.hash for line in result.lines} == set(said)


@pytest.mark.thorough
def test_a_kill_at_any_moment_loses_no_line_that_was_told(tmp_path) -> None:
    told: list[str] = []
    for round_ in range(6):
        writer = start_writer(tmp_path, 100_000, "ann")
        writer.stdout.readline()
        time.sleep(0.05 + 0.03 * round_)
        writer.send_signal(signal.SIGKILL)
        told += [word for word in writer.communicate()[0].split() if len(word) == 64]
    result = verify(tmp_path)
    assert result.ok, result.problem
    assert {line.hash for line in result.lines} >= set(told)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path) -> None:
    content = write(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 50, before[1]))
        with pytest.raises(GalleryError, match="Nothing is shown"):
            append(tmp_path, "search", "ann", {"shown": list(range(100))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / LOG_FILE).read_bytes() == content
    append(tmp_path, "search", "ann", {})
    assert verify(tmp_path).ok


def test_a_link_in_the_log_s_place_is_not_followed(tmp_path) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("mine")
    for name in (LOG_FILE, HEAD_FILE):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).symlink_to(mine)
        with pytest.raises(GalleryError):
            append(folder, "search", "ann", {})
    assert mine.read_text() == "mine"


def test_what_a_terminal_would_obey_is_written_as_it_is_shown(tmp_path) -> None:
    append(tmp_path, "search", "ann\x1b[31m", {"purpose": "a\nb\u202e", "key\x07": "\ud800"})
    line = verify(tmp_path).lines[0]
    assert line.by == "ann\\x1b[31m"
    assert line.details == {"purpose": "a\\nb\\u202e", "key\\x07": "\\ud800"}


def cut(folder, at, **options):
    """Cut off what was written before a line, by its number."""
    lines = verify(folder).lines
    before = next(datetime.fromisoformat(line.time) for line in lines if line.number == at)
    return cut_log(folder, before, "ben", needed=options.get("needed", lambda line: False))


def write_apart(folder, lines=5):
    """Lines whose times differ."""
    for number in range(lines):
        append(folder, "search" if number % 2 else DRAWING, "ann", {"shown": [number]})
        time.sleep(0.002)
    return [line.hash for line in verify(folder).lines]


def test_lines_whose_time_is_over_are_cut_off_and_the_rest_is_still_proved(tmp_path) -> None:
    hashes = write_apart(tmp_path)
    assert cut(tmp_path, 4) == 3
    result = verify(tmp_path)
    assert (result.ok, result.cut, [line.number for line in result.lines]) == (True, 3, [4, 5, 6])
    assert (result.lines[-1].event, result.lines[-1].by) == ("cut", "ben")
    assert result.lines[-1].details == {"lines": 3, "last": hashes[2]}
    assert verify(tmp_path, known=hashes[4]).holds_known
    assert verify(tmp_path, known=hashes[2]).holds_known
    gone = verify(tmp_path, known=hashes[0])
    assert (gone.ok, "the first 3 were cut off" in gone.problem) == (False, True)
    append(tmp_path, "search", "ann", {})
    assert cut(tmp_path, 6) == 2
    result = verify(tmp_path)
    assert (result.ok, result.cut, [line.number for line in result.lines]) == (True, 5, [6, 7, 8])


def test_what_is_still_needed_of_a_line_that_is_cut_off_is_written_once_more(tmp_path) -> None:
    write_apart(tmp_path, 4)
    cut(tmp_path, 4, needed=lambda line: line.event == DRAWING)
    lines = verify(tmp_path).lines
    assert [(line.event, line.details.get("shown")) for line in lines] == [
        ("search", [3]),
        (DRAWING, [0]),
        (DRAWING, [2]),
        ("cut", None),
    ]


def test_lines_that_somebody_else_cut_off_are_missed(tmp_path) -> None:
    write_apart(tmp_path)
    content, head = (tmp_path / LOG_FILE).read_bytes(), json.loads((tmp_path / HEAD_FILE).read_text())
    lines = content.splitlines(keepends=True)
    second = json.loads(lines[1])
    (tmp_path / LOG_FILE).write_bytes(b"".join(lines[2:]))
    assert not verify(tmp_path).ok
    with pytest.raises(GalleryError, match="shorter"):
        append(tmp_path, "search", "ann", {})
    head |= {"cut": 2, "anchor": second["hash"], "bytes": len(b"".join(lines[2:]))}
    (tmp_path / HEAD_FILE).write_text(json.dumps(head))
    found = verify(tmp_path)
    assert (found.ok, found.wrong_line) == (False, 1)
    assert "no line says they were cut" in found.problem


def test_a_log_that_was_changed_is_evidence_and_is_not_cut(tmp_path) -> None:
    write_apart(tmp_path)
    path = tmp_path / LOG_FILE
    changed = path.read_bytes().replace(b'"shown":[1]', b'"shown":[7]')
    path.write_bytes(changed)
    with pytest.raises(GalleryError, match="line 2"):
        cut(tmp_path, 4)
    assert path.read_bytes() == changed


@pytest.mark.parametrize("replaced", [False, True])
def test_a_kill_while_lines_are_cut_off_leaves_the_log_as_it_was_or_cut(replaced, tmp_path, monkeypatch) -> None:
    """Killed before the file is replaced, and after that, before the head says so."""
    write_apart(tmp_path)

    class KilledError(Exception):
        pass

    def kill(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        if replaced:
            write_head = access_log._write_head
            heads = []
            patched.setattr(
                access_log, "_write_head", lambda *given: kill() if heads else heads.append(write_head(*given))
            )
        else:
            patched.setattr(access_log, "replacing", kill)
        with pytest.raises(KilledError):
            cut(tmp_path, 4)
    result = verify(tmp_path)
    assert (result.ok, result.cut) == (True, 3 if replaced else 0)
    append(tmp_path, "search", "ann", {})
    result = verify(tmp_path)
    assert (result.ok, result.cut, result.lines[-1].number) == (True, 3 if replaced else 0, 7)
