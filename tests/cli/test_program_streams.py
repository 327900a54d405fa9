"""What a program is told over, and how it is stopped: closed, full and narrow-minded streams, signals, wrong words."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import TINY_DATA_FLAGS, sil, start_sil

pytestmark = pytest.mark.thorough

FULL = Path("/dev/full")
PROGRAM = [sys.executable, "-m", "sil_cli"]


def run(*arguments, **options):
    return subprocess.run([*PROGRAM, *arguments], stderr=subprocess.PIPE, check=False, **options)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["train", "--seed", "abc"], "sil train"),
        (["show", "--no-such-option"], "sil show"),
        (["gallery", "tune", "--recall", "x"], "sil gallery tune"),
        (["no-such-command"], "sil"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_told_as_all_errors_are(arguments, command) -> None:
    outcome = sil(*arguments, "--json")
    assert outcome.code == 2
    error = outcome.document["error"]
    assert error["exit_code"] == 2
    assert error["fix"] == f"See `{command} --help`."
    assert "Value error" not in error["what"]
    assert outcome.err.splitlines() == [f"Error: {error['what']}", f"       {error['fix']}"]
    assert sil(*arguments).out == ""


def test_words_of_a_command_line_are_not_obeyed_by_the_terminal() -> None:
    outcome = sil("train", "--\x1b[31mred")
    assert outcome.code == 2
    assert "\x1b" not in outcome.err


def test_no_words_get_the_help_and_no_error() -> None:
    outcome = sil("gallery")
    assert "Usage:" in outcome.out + outcome.err
    assert "Error" not in outcome.err


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_that_are_not_utf8_come_back_from_json(tmp_path, encoding: str) -> None:
    done = run("show", "--json", b"caf\xe9", stdout=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": encoding})
    what = json.loads(done.stdout.decode(encoding))["error"]["what"]
    assert what.split()[0] == os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_a_stream_without_our_signs_gets_words_for_them(tmp_path, world, encoding) -> None:
    """Also where typer prints, whose consoles aren't ours."""
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = run(
        "query",
        "--id",
        "1",
        "--top",
        "3",
        "--sheet",
        str(tmp_path / "s.png"),
        stdout=subprocess.PIPE,
        env=environment,
        cwd=world,
    )
    shown = done.stdout.decode(encoding)
    assert "ok Contact sheet in" in shown
    assert "?" not in shown
    shown = run("query", "--help", stdout=subprocess.PIPE, env=environment).stdout.decode(encoding)
    assert "?" not in shown
    assert ("2024-05-31T08:30, …" if encoding == "cp1252" else "2024-05-31T08:30, ...") in " ".join(shown.split())


@pytest.mark.parametrize("columns", ["0", "00", ""])
def test_a_terminal_of_no_width_gets_the_help(columns) -> None:
    for arguments in (["--help"], ["query", "--help"], ["gallery", "remove", "-h"]):
        done = run(*arguments, stdout=subprocess.PIPE, env=os.environ | {"COLUMNS": columns})
        assert b"Usage:" in done.stdout
        assert b"--config" in done.stdout or b"query" in done.stdout


def test_names_that_a_stream_has_no_letters_for_can_still_be_told_apart(tmp_path) -> None:
    for name in ("Zo\u00eb", "Zo\u00e9"):
        done = run("show", name, stdout=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": "ascii"})
        assert name.encode("ascii", "backslashreplace") in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_a_full_stdout_is_one_clear_error() -> None:
    with FULL.open("wb") as full:
        done = run("doctor", "--json", stdout=full)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == b"Error: The disk is full."
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_a_full_stderr_does_not_cost_the_document() -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, "show", "nope", "--json"], stdout=subprocess.PIPE, stderr=full, check=False
        )  # fmt: skip
    assert "nope" in json.loads(done.stdout)["error"]["what"]


def test_a_closed_stdout_is_no_error_of_its_own() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *PROGRAM, "show", "nope", "--json"], stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == 1
    assert b"nope is not a prepared data set" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_table_whose_reader_has_left_says_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        done = run("doctor", stdout=nobody)
    assert done.returncode == 1
    assert done.stderr == b""


def test_termination_is_told_as_ctrl_c_is_and_leaves_nothing_behind(tmp_path) -> None:
    process = start_sil("prepare-data", "--json", *TINY_DATA_FLAGS, "--set", "data.synthetic.test_identities=3000",
                        cwd=tmp_path)  # fmt: skip
    deadline = time.monotonic() + 120
    while not any((tmp_path / "data").glob(".sil-staging-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert json.loads(out)["error"]["exit_code"] == 130
    assert not any((tmp_path / "data").glob(".sil-staging-*"))
