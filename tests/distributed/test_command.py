"""Processes agree, and speak with one voice; each is played in turn, with a real store between them."""

import json
import subprocess
import sys

import pytest
from torch.distributed import HashStore

from sil_cli.distributed import command as together
from sil_cli.distributed.collectives import LostProcessError
from sil_cli.distributed.command import _as_reported, agree
from sil_cli.distributed.process_group import ProcessGroup
from sil_cli.errors import AlreadyReportedError, InterruptedWorkError, SilError, UsageError
from sil_cli.runtime import Launch


class Played(ProcessGroup):
    """Two processes, of which the other says what it is told to."""

    def __init__(self, other: dict[str, object]) -> None:
        self.other = other

    def gather_texts(self, text: str) -> list[str]:
        return [json.dumps(self.other), text]


def test_processes_that_agree_go_on() -> None:
    agree(Played({"train.seed": 1, "sources": ["a"]}), {"sources": ["a"], "train.seed": 1}, fix="-")


@pytest.mark.parametrize(
    ("mine", "told"),
    [
        ({"train.seed": 2}, "train.seed = 2 (there 1)"),
        ({"the version of torch": "2.6"}, "the version of torch = 2.6 (there 2.7)"),
        ({"more": "x"}, "more = x (there None)"),
        ({"train.seed": 3, "sources": ["b"]}, "sources = ['b'] (there ['a']), train.seed = 3 (there 1)"),
    ],
)
def test_what_differs_is_named(mine, told) -> None:
    first = {"train.seed": 1, "sources": ["a"], "the version of torch": "2.7"}
    with pytest.raises(UsageError) as caught:
        agree(Played(first), first | mine, fix="Do so.")
    assert caught.value.what == f"Process 1 does not agree with process 0: {told}."


@pytest.fixture
def store(monkeypatch) -> HashStore:
    monkeypatch.setattr(together, "FIRST_SPEAKS", 0.0)
    monkeypatch.setattr(together, "LAST_WORDS", 0.0)
    monkeypatch.setattr(together, "STOPPING", 0.1)
    return HashStore()


def process(number: int) -> Launch:
    return Launch(rank=number, world_size=3)


def test_an_error_that_all_have_is_told_once(store) -> None:
    error = UsageError("Wrong.", "Right it.")
    assert _as_reported(error, process(0), store) is error
    for other in (1, 2):
        told = _as_reported(UsageError("Wrong.", "Right it."), process(other), store)
        assert isinstance(told, AlreadyReportedError)
        assert told.exit_code == 2


def test_an_error_of_one_says_whose_and_the_others_are_quiet(store) -> None:
    told = _as_reported(UsageError("No GPU.", "Look."), process(2), store)
    assert isinstance(told, SilError)
    assert told.what.startswith("No GPU. (process 2 of 3, on ")
    assert told.exit_code == 2
    for other in (0, 1):
        quiet = _as_reported(LostProcessError("Gone.", "-"), process(other), store)
        assert isinstance(quiet, AlreadyReportedError)
        assert quiet.exit_code == 1


def test_a_process_that_was_killed_is_named_by_one_of_those_left(store) -> None:
    store.set("here/2", "yes")
    while_cleaning_up = RuntimeError("closed")
    while_cleaning_up.__context__ = LostProcessError("Gone.", "-")
    told = _as_reported(while_cleaning_up, process(0), store)
    assert isinstance(told, SilError)
    assert told.what.startswith("Process 1 of 3 has ended or stopped responding")
    assert isinstance(_as_reported(LostProcessError("Gone.", "-"), process(2), store), AlreadyReportedError)


def test_a_stop_is_no_ones_fault(store) -> None:
    stopped = InterruptedWorkError("Stopped.", "Go on.")
    assert _as_reported(stopped, process(1), store) is stopped
    assert _as_reported(KeyboardInterrupt(), process(0), store).exit_code == 130


@pytest.mark.parametrize("error", [InterruptedWorkError("Stopped.", "Go on."), KeyboardInterrupt()])
def test_whoever_torchrun_stops_because_another_was_killed_names_it(store, monkeypatch, error) -> None:
    monkeypatch.setattr(together, "_say_here", lambda store, launch, _: store.set(f"here/{launch.rank}", "") or True)
    store.set("here/2", "yes")
    told = _as_reported(error, process(0), store)
    assert isinstance(told, SilError)
    assert told.what.startswith("Process 1 of 3 has ended or stopped responding")
    assert told.exit_code == 1


def test_all_that_are_stopped_together_are_stopped(store, monkeypatch) -> None:
    monkeypatch.setattr(together, "_say_here", lambda store, launch, _: store.set(f"here/{launch.rank}", "") or True)
    store.set("here/1", "yes")
    store.set("here/2", "yes")
    stopped = InterruptedWorkError("Stopped.", "Go on.")
    assert _as_reported(stopped, process(0), store) is stopped


STOPPED = """
import signal
from torch.distributed import HashStore
from sil_cli.errors import SilError
from sil_cli.runtime import Launch
from sil_cli.distributed import command as together

store = HashStore()
together.STOPPING = 0.1
together._torchrun_store = lambda launch: store
together._say_here = lambda *_: store.set("here/0", "yes") is None
try:
    with together.one_voice(Launch(rank=0, world_size=2)):
        signal.raise_signal(signal.SIGTERM)
except SilError as error:
    print(error.what)
"""


def test_a_process_that_is_stopped_at_any_moment_still_says_who_is_missing() -> None:
    """torchrun sends SIGTERM to those that are left; by default a process dies of it without a word."""
    told = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, check=False)
    assert told.stdout.startswith("Process 1 of 2 has ended"), (told.returncode, told.stderr)
