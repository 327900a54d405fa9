"""What torchrun tells the processes that it starts."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Launch:
    """One process of a command, and how many others run the same.

    Attributes:
        number: Its rank, 0 to count − 1; the first one, 0, writes and speaks for all.
        count: How many processes there are, on all machines.
        local_number: Its number on its machine: which GPU it takes.
        attempt: How often torchrun has started all of them anew after one had died.
        is_last: Whether it starts them anew no more.
        name: Of the whole launch: the same in every process of it that is first on its machine, and after a restart.
    """

    number: int = 0
    count: int = 1
    local_number: int = 0
    attempt: int = 0
    is_last: bool = True
    name: str = ""

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.number == 0


ALONE = Launch()


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """The launch that this process belongs to; `ALONE` where nobody launched it.

    LOCAL_RANK decides: torchrun sets it, while RANK and WORLD_SIZE alone may also number the pods of a job.

    Raises:
        UsageError: The variables contradict each other.
    """
    if "LOCAL_RANK" not in environment:
        return ALONE
    try:
        number, count, local = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        attempt, most = (
            int(environment.get(f"TORCHELASTIC_{name}", "0")) for name in ("RESTART_COUNT", "MAX_RESTARTS")
        )
    except (KeyError, ValueError):
        raise UsageError(
            "LOCAL_RANK is set, but RANK, WORLD_SIZE and LOCAL_RANK are not three numbers.",
            "Start the processes with torchrun, or unset LOCAL_RANK to run in one.",
        ) from None
    if not 0 <= number < count or local < 0:
        raise UsageError(f"RANK = {number} is none of {count} processes.", "Start the processes with torchrun.")
    # torchrun's own name for a job is "none" where nobody gave one; its process on this machine outlives restarts.
    given = environment.get("TORCHELASTIC_RUN_ID", "none")
    name = given if given != "none" else f"{socket.gethostname()}-{os.getppid()}"
    return Launch(number=number, count=count, local_number=local, attempt=attempt, is_last=attempt >= most, name=name)
