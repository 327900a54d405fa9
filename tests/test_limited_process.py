from __future__ import annotations

import os
from pathlib import Path

import apart_work
import pytest

from sil_cli.errors import DataError
from sil_cli.limited_process import ProcessDiedError, yielded_apart

LIMITS = {"memory": 200 << 20, "seconds": 1}


def test_what_is_yielded_apart_comes_as_it_is() -> None:
    words = ["a", "", "b\n", "ё"]
    assert list(yielded_apart(apart_work.echo, *words, **LIMITS)) == [word.encode() * 100_000 for word in words]


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (apart_work.crash, "what reads it crashed (SIGSEGV)"),
        pytest.param(apart_work.spin, "it takes more than 1 s of processor time", marks=pytest.mark.thorough),
        (apart_work.grow, "it takes more than 200 MiB of memory"),
        pytest.param(apart_work.stumble, "what reads it crashed (code 1)", marks=pytest.mark.thorough),
    ],
)
def test_how_a_process_ended_is_told(work, why) -> None:
    coming = yielded_apart(work, **LIMITS)
    assert next(coming) == b"1"
    with pytest.raises(ProcessDiedError) as caught:
        next(coming)
    assert str(caught.value) == why


def test_an_error_of_ours_comes_through() -> None:
    with pytest.raises(DataError) as caught:
        list(yielded_apart(apart_work.fail, **LIMITS))
    assert (caught.value.what, caught.value.fix) == ("It is wrong.", "Mend it.")


def test_who_stops_reading_ends_the_process() -> None:
    coming = yielded_apart(apart_work.wait, "60", **LIMITS)
    pid = int(next(coming))
    assert Path(f"/proc/{pid}").exists()
    coming.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.thorough
def test_what_reads_matlab_files_loads_little() -> None:
    (found,) = yielded_apart(apart_work.loaded, "sil_cli.data.readers.cuhk03_mat", **LIMITS)
    assert b"torch" not in found
    assert b"pytest" not in found
