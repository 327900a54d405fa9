"""What torchrun's variables say."""

import pytest

from sil_cli.errors import UsageError
from sil_cli.runtime import SINGLE_LAUNCH, read_launch

LAUNCHED = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}


def test_nobody_launched_it() -> None:
    assert read_launch({}) == SINGLE_LAUNCH
    assert read_launch({"RANK": "1", "WORLD_SIZE": "2"}) == SINGLE_LAUNCH  # a numbered pod, but no torchrun in it
    assert SINGLE_LAUNCH.is_first
    assert SINGLE_LAUNCH.is_last


def test_a_process_of_several() -> None:
    launch = read_launch({**LAUNCHED, "TORCHELASTIC_RUN_ID": "job7"})
    assert (launch.rank, launch.world_size, launch.local_rank, launch.attempt) == (5, 8, 1, 0)
    assert launch.name == "job7"
    assert not launch.is_first
    assert launch.is_last


def test_attempts() -> None:
    restarts = {"TORCHELASTIC_MAX_RESTARTS": "2"}
    first = read_launch({**LAUNCHED, **restarts, "TORCHELASTIC_RESTART_COUNT": "0"})
    last = read_launch({**LAUNCHED, **restarts, "TORCHELASTIC_RESTART_COUNT": "2"})
    assert not first.is_last
    assert last.is_last
    assert first.name == last.name != ""


@pytest.mark.parametrize("wrong", [{"RANK": "8"}, {"RANK": "-1"}, {"WORLD_SIZE": "many"}, {"LOCAL_RANK": ""}])
def test_contradictions_are_refused(wrong) -> None:
    with pytest.raises(UsageError, match=r"torchrun|three numbers"):
        read_launch({**LAUNCHED, **wrong})
