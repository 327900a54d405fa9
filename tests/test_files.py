from __future__ import annotations

import codecs
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.errors import SilError, as_cell, from_cell, json_for_terminals, one_line, say_in_ascii, sayable, visible
from sil_cli.files import (
    STAGING_MARK,
    TEMPORARY_MARK,
    as_on_disk,
    composed,
    concerned,
    copy_file,
    open_file,
    parse_json,
    path_below,
    read_bytes,
    read_json,
    remove_leftovers,
    sha256_of_bytes,
    sha256_of_file,
    staging_folder,
    write_bytes,
    write_json,
    write_text,
    writing,
)


class Stop(BaseException):
    """Like KeyboardInterrupt: no `Exception`."""


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def work() -> None:
        with writing(path) as stream:
            stream.write(b"new")
            raise error

    with pytest.raises(error):
        work()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_an_error_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(ValueError, match="oh"), writing(tmp_path / "deep" / "x.txt"):
        raise ValueError("oh")
    assert names(tmp_path / "deep") == []


def test_the_old_file_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with writing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_what_is_replaced_outlives_a_power_cut(tmp_path, monkeypatch):
    """Content reaches the disk before the name does; else a cut between them leaves an empty file, or the old name."""
    done = []
    sync, rename = os.fsync, os.replace

    def synced(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def renamed(source, target, **facts):
        done.append(f"rename to {Path(target).name}")
        rename(source, target, **facts)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_bytes(tmp_path / "x.txt", b"new")
    assert done == ["file", "rename to x.txt", "folder"]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    code = (
        "import sys, time; from pathlib import Path; from sil_cli.files import writing\n"
        "with writing(Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'new'); stream.flush(); print('half', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert path.read_text() == "old"


def test_a_file_gets_the_rights_that_any_file_gets(tmp_path):
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "x", b"")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_text_and_json_are_utf8_and_end_in_a_newline(tmp_path):
    write_text(tmp_path / "x.txt", "é\n")
    assert (tmp_path / "x.txt").read_bytes() == b"\xc3\xa9\n"
    write_json(tmp_path / "x.json", {"name": "é", "value": 0.5})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "name": "é",\n  "value": 0.5\n}\n'


def test_nan_is_refused_and_the_old_json_stays(tmp_path):
    write_json(tmp_path / "x.json", [1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", [float("nan")])
    assert read_json(tmp_path / "x.json", what="numbers", fix="Try again.") == [1]


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_damaged_json_is_one_line_for_the_user(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(SilError) as caught:
        read_json(tmp_path / "x.json", what="the run's model", fix="Train again.")
    assert "can't be read as the run's model" in caught.value.what
    assert "\n" not in caught.value.what
    assert caught.value.fix == "Train again."


def test_missing_json_says_what_it_should_hold(tmp_path):
    with pytest.raises(SilError, match="is missing: it should hold the run's model"):
        read_json(tmp_path / "x.json", what="the run's model", fix="Train again.")


def test_a_staging_folder_goes_when_the_work_is_done(tmp_path):
    with staging_folder(tmp_path / "deep") as folder:
        assert names(folder) == []
        (folder / "whole").touch()
        (folder / "whole").rename(folder.parent / "kept")
    assert names(tmp_path / "deep") == ["kept"]


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_a_staging_folder_goes_when_the_work_fails(tmp_path, error):
    def work() -> None:
        with staging_folder(tmp_path) as folder:
            (folder / "half").touch()
            raise error

    with pytest.raises(error):
        work()
    assert names(tmp_path) == []


HALF_MADE = "0123456789abcdef"


def test_what_a_killed_run_staged_is_deleted(tmp_path):
    (tmp_path / f"{STAGING_MARK}{HALF_MADE}" / "inner").mkdir(parents=True)
    with staging_folder(tmp_path) as folder:
        assert names(tmp_path) == [folder.name]


def test_what_others_stage_or_call_alike_stays(tmp_path):
    others = [".staging-old", f".staging-{HALF_MADE}", f"{STAGING_MARK}x", f"{TEMPORARY_MARK}x.jpg", f".x{HALF_MADE}"]
    for name in others:
        (tmp_path / name / "inner").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine").touch()
    (tmp_path / f"{STAGING_MARK}{HALF_MADE}").symlink_to("home")
    os.mkfifo(tmp_path / f"{TEMPORARY_MARK}{HALF_MADE}")
    before = names(tmp_path)
    with staging_folder(tmp_path) as first, staging_folder(tmp_path) as second:
        assert names(tmp_path) == sorted([*before, first.name, second.name])
        with writing(tmp_path / "x.jpg"):
            there = names(tmp_path)
            remove_leftovers(tmp_path)
            assert names(tmp_path) == there
    assert names(tmp_path) == sorted([*before, "x.jpg"])
    assert names(tmp_path / "home") == ["mine"]


def test_who_is_deleted_while_beginning_begins_again(tmp_path, monkeypatch):
    """In the moment between a name and its lock."""
    flock, made = fcntl.flock, []

    def delete_first(handle, how) -> None:
        if len(made) < 2:
            (one,) = tmp_path.iterdir()
            made.append(one.name)
            one.rmdir() if one.is_dir() else one.unlink()
        flock(handle, how)

    monkeypatch.setattr("fcntl.flock", delete_first)
    with staging_folder(tmp_path) as folder:
        assert names(tmp_path) == [folder.name]
    made.pop()
    write_text(tmp_path / "x", "whole")
    assert len(made) == 2
    assert names(tmp_path) == ["x"]


def test_checksums(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of_bytes(b"abc") == sha256_of_file(tmp_path / "x")
    assert sha256_of_bytes(b"abc").startswith("ba7816bf8f01cfea")


def test_errors_become_one_line():
    assert one_line(ValueError("two\n  lines.")) == "two lines"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("-" * 5000)) == "-" * 400 + "…"
    assert one_line(OSError(28, "No space left on device", "/x")) == "No space left on device"


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "x"
    with writing(path) as first:
        first.write(b"a" * 1000)
        with writing(path) as second:
            second.write(b"b" * 10)
        assert path.read_bytes() == b"b" * 10
    assert path.read_bytes() == b"a" * 1000
    assert names(tmp_path) == ["x"]


def test_what_a_kill_left_half_written_can_be_removed(tmp_path):
    (tmp_path / f"{TEMPORARY_MARK}{HALF_MADE}.pt").write_bytes(b"half")
    (tmp_path / "whole.pt").write_bytes(b"whole")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.pt"]


def put(path, content):
    with writing(path) as stream:
        stream.write(content)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/x").write_text("old")
    (tmp_path / "link").symlink_to("there/x")
    (tmp_path / "again").symlink_to("link")
    with writing(tmp_path / "again") as stream:
        stream.write(b"new")
        stream.flush()
        assert (tmp_path / "there/x").read_text() == "old"
        assert names(tmp_path) == ["again", "link", "there"]
    assert (tmp_path / "there/x").read_text() == "new"
    assert (tmp_path / "again").is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "there") == ["x"]


def test_a_link_to_nothing_yet_makes_its_target(tmp_path):
    (tmp_path / "link").symlink_to("deep/x")
    put(tmp_path / "link", b"new")
    assert (tmp_path / "deep/x").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_links_in_a_circle_are_told(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        put(tmp_path / "a", b"")
    assert names(tmp_path) == ["a", "b"]


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reading = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reading.start()
    put(pipe, b"new")
    reading.join(10)
    assert got == [b"new"]
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("linked", [False, True])
def test_an_open_file_of_this_process_is_written_to_where_it_stands(tmp_path, linked):
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as stream:
        path = Path(f"/dev/fd/{stream.fileno()}")
        if linked:
            (tmp_path / "out").symlink_to(path)
            path = tmp_path / "out"
        put(path, b"new\n")
        stream.write("after\n")
    assert log.read_text() == "before\nnew\nafter\n"
    assert names(tmp_path) == (["log", "out"] if linked else ["log"])


def test_a_pipe_that_this_process_holds_is_written_to(tmp_path):
    inside, outside = os.pipe()
    (tmp_path / "out").symlink_to(f"/dev/fd/{outside}")
    put(tmp_path / "out", b"new")
    os.close(outside)
    with os.fdopen(inside, "rb") as stream:
        assert stream.read() == b"new"
    assert names(tmp_path) == ["out"]


def test_a_folder_is_refused_at_once_and_kept(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(IsADirectoryError), writing(tmp_path / "x"):
        pytest.fail("the work is done for nothing")
    assert names(tmp_path) == ["x"]


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("x")
        with pytest.raises(SilError, match="neither a file nor a pipe"):
            put(Path("x"), b"")
    assert names(tmp_path) == ["x"]


def test_a_link_in_a_folder_of_ours_is_replaced_and_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not ours")
    (tmp_path / "gallery").mkdir()
    planted = tmp_path / "gallery/segment-1.faiss"
    planted.symlink_to(elsewhere)
    write_bytes(planted, b"vectors")
    assert elsewhere.read_text() == "not ours"
    assert planted.read_bytes() == b"vectors"
    assert not planted.is_symlink()


def test_only_files_are_opened_to_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        for work in (open_file, sha256_of_file):
            with pytest.raises(OSError, match="not a file"):
                work(tmp_path / name)


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(errno.ENOSPC, "full"), ""),
        (OSError(errno.ENOSPC, "full", 3), ""),
        (OSError(errno.EACCES, "no", b"a/x"), "a/x"),
        (OSError(errno.ENOSPC, "full", "from/x", None, "to/x"), "to/x"),
        (OSError(errno.ENOSPC, "full", "from/x", None, f"to/{STAGING_MARK}ab/deep/x"), "to"),
        (OSError(errno.ENOSPC, "full", f"to/{TEMPORARY_MARK}ab.jpg", None, f"to/{TEMPORARY_MARK}cd/x"), "to"),
    ],
)
def test_an_error_concerns_what_is_written_to_under_the_name_that_a_user_knows(error, place):
    assert concerned(error) == place


@pytest.mark.parametrize("written", [100, 3_000_000])
def test_a_limit_on_file_sizes_is_met_by_the_target(tmp_path, written):
    (tmp_path / "from").write_bytes(bytes(4_000_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            copy_file(tmp_path / "from", tmp_path / "to")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "to")
    assert names(tmp_path) == ["from"]


def test_a_device_without_room_is_named(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        put(tmp_path / "full", b"new")
    assert caught.value.filename == str(tmp_path / "full")


ZOE, ZOE_ON_MACOS = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))


@pytest.fixture
def crops(tmp_path):
    """A folder that links lead to and from, with names as macOS writes them."""
    root = tmp_path / "real"
    (root / ZOE_ON_MACOS).mkdir(parents=True)
    (root / ZOE_ON_MACOS / f"{ZOE_ON_MACOS}.jpg").touch()
    (root / "C:").mkdir()
    (root / "C:" / "1.jpg").touch()
    (tmp_path / "elsewhere").mkdir()
    (root / "inner").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(root)
    return tmp_path


@pytest.mark.parametrize("spelling", ["real", "link", "elsewhere/../real", "link/../real"])
def test_a_path_lies_below_a_folder_however_either_is_spelt(crops, spelling):
    root = crops / spelling
    inside = {
        "a/1.jpg": "a/1.jpg",
        "a\\1.jpg": "a/1.jpg",
        "./1.jpg": "1.jpg",
        "12:30:01_c1.png": "12:30:01_c1.png",
        "A:1/1.jpg": "A:1/1.jpg",
        "C:/1.jpg": "C:/1.jpg",
        "a/../1.jpg": "1.jpg",
        "../real/1.jpg": "1.jpg",
        "inner/1.jpg": "inner/1.jpg",
        str(crops / "real" / "1.jpg"): "1.jpg",
        str(crops / "link" / "a" / "1.jpg"): "a/1.jpg",
        str(crops / "elsewhere" / ".." / "real" / "1.jpg"): "1.jpg",
        str(crops / "real" / "inner" / "1.jpg"): "inner/1.jpg",
        f"{ZOE}/{ZOE}.jpg": f"{ZOE_ON_MACOS}/{ZOE_ON_MACOS}.jpg",
        f"{crops}/link/{ZOE}/{ZOE}.jpg": f"{ZOE_ON_MACOS}/{ZOE_ON_MACOS}.jpg",
        f"{ZOE}/new.jpg": f"{ZOE}/new.jpg",
    }
    assert {written: path_below(root, written) for written in inside} == inside
    outside = ["", ".", "..", "/etc/passwd", "../1.jpg", "a/../../1.jpg", "..\\1.jpg", "C:\\2.jpg", "d:/1.jpg", "a\0b"]
    outside += ["\\\\server\\1.jpg", "//server/1.jpg", str(crops / "elsewhere" / "1.jpg"), str(crops / "real"), "a/.."]
    assert {written: path_below(root, written) for written in outside} == dict.fromkeys(outside)


def test_a_path_is_found_as_the_disk_spells_it(crops):
    there = crops / "real" / ZOE_ON_MACOS / f"{ZOE_ON_MACOS}.jpg"
    assert as_on_disk(crops / "real" / ZOE / f"{ZOE}.jpg") == there == as_on_disk(there)
    for missing in (crops / "real" / ZOE / "other ë.jpg", crops / "real" / "Zoé" / "1.jpg", crops / "1.jpg"):
        assert as_on_disk(missing) == missing
    both = crops / "real" / ZOE
    both.mkdir()
    assert as_on_disk(both) == both  # where a disk keeps both apart, each is itself
    assert (composed(ZOE_ON_MACOS), composed("Zoe")) == (ZOE, "Zoe")


CELLS = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="'=+-@\\x1bnu20 \t\r\n\x1b\x9b\u202e＝", max_size=8),
)


@given(CELLS)
@settings(max_examples=400, deadline=None)
def test_a_cell_is_harmless_and_gives_its_text_again(text: str) -> None:
    cell = as_cell(text)
    assert from_cell(cell) == text
    assert from_cell(cell.strip()) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))
    assert visible(cell) == cell


def test_cells_of_other_programs_are_their_own_text() -> None:
    for cell in ("", "p1", "'tis", "'", "''", r"'C:\users", r"a\x1b", "'x", r"\\host\share", "=1"):
        assert from_cell(cell) == cell
    assert [as_cell(text) for text in ("=1+1", "-1", "a\x1bb", "p1", "O'Neil", r"C:\new", "two\nlines")] == [
        "'=1+1",
        "'-1",
        r"'a\x1bb",
        "p1",
        "O'Neil",
        r"C:\new",
        r"'two\nlines",
    ]


def test_json_for_terminals_holds_the_same() -> None:
    document = {"a\x9b": "\u202e\x7f \u2028Zoë", "b": ["\x1b\n", 1]}
    text = json_for_terminals(json.dumps(document, indent=1, ensure_ascii=False))
    assert json.loads(text) == document
    assert visible(text, lines=True) == text
    assert "Zoë" in text


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("\u2713 Zo\u00eb \u540d \u2026", "utf-8", "\u2713 Zo\u00eb \u540d \u2026"),
        ("\u2713 Zo\u00eb \u540d \u2026", "cp1252", "ok Zo\u00eb \\u540d \u2026"),
        ("\u2713 Zo\u00eb \u540d \u2026", "ascii", "ok Zo\\xeb \\u540d ..."),
        ("\u2713 Zo\u00eb \u540d \u2026", "no-such-encoding", "ok Zo\\xeb \\u540d ..."),
        ("\u2713" * 5000, "ascii", "ok" * 5000),
        ("plain", "ascii", "plain"),
    ],
    ids=lambda value: value[:20],
)
def test_what_an_encoding_lacks_is_said_in_ascii(text, encoding, said):
    assert sayable(text, encoding) == said
    if encoding != "no-such-encoding":
        codecs.register_error("test", say_in_ascii)
        assert text.encode(encoding, "test").decode(encoding) == said


def test_half_a_character_is_no_text_and_a_whole_one_is() -> None:
    assert parse_json('{"a": "\\ud83d\\ude00", "b": "\\\\ud800"}') == {"a": "\U0001f600", "b": "\\ud800"}
    for text in ('{"a": "res\\ud800net"}', '["\\uDC00"]', '{"\\udfff": 1}'):
        with pytest.raises(ValueError, match="half a character"):
            parse_json(text)


def test_a_file_full_of_holes_is_not_read(tmp_path):
    with (tmp_path / "x").open("wb") as stream:
        stream.truncate(300 * 2**30)
    with pytest.raises(OSError, match="322,122,547,200 bytes, more than 8,000,000") as caught:
        read_bytes(tmp_path / "x")
    assert caught.value.filename == str(tmp_path / "x")
    assert one_line(caught.value) == "it has 322,122,547,200 bytes, more than 8,000,000"
