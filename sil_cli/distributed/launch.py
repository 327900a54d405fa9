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
        rank: The number of this process, from 0; the first one writes and speaks for all.
        world_size: How many processes there are, on all machines.
        local_rank: Its number on its machine: which GPU it takes.
        attempt: How often torchrun has restarted all of them after one had died.
        is_last: Whether it will not restart them again.
        name: Of the whole launch: the same in every process of it that is first on its machine, and after a restart.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    attempt: int = 0
    is_last: bool = True
    name: str = ""

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0


SINGLE_LAUNCH = Launch()


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """The launch that this process belongs to; `SINGLE_LAUNCH` where torchrun did not start it.

    LOCAL_RANK decides: torchrun sets it, while RANK and WORLD_SIZE alone may also number the pods of a job.

    Raises:
        UsageError: The variables contradict each other.
    """
    if "LOCAL_RANK" not in environment:
        return SINGLE_LAUNCH
    try:
        rank, world_size, local_rank = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        attempt, most = (
            int(environment.get(f"TORCHELASTIC_{name}", "0")) for name in ("RESTART_COUNT", "MAX_RESTARTS")
        )
    except (KeyError, ValueError):
        raise UsageError(
            "LOCAL_RANK is set, but RANK, WORLD_SIZE and LOCAL_RANK are not three numbers.",
            "Start the processes with torchrun, or unset LOCAL_RANK to run in one.",
        ) from None
    if not 0 <= rank < world_size or local_rank < 0:
        raise UsageError(
            f"RANK = {rank} and LOCAL_RANK = {local_rank} do not number one of {world_size} processes.",
            "Start the processes with torchrun.",
        )
    # torchrun's own name for a job is "none" where nobody gave one; its process on this machine outlives restarts.
    given = environment.get("TORCHELASTIC_RUN_ID", "none")
    name = given if given != "none" else f"{socket.gethostname()}-{os.getppid()}"
    is_last = attempt >= most
    return Launch(rank, world_size, local_rank, attempt, is_last, name)
