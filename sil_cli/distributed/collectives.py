"""What the processes of one training tell each other, through torch.distributed's default group.

Tensors on the CPU travel by gloo, those on a GPU by NCCL. Whatever is added up here is added in the order of the
processes, or by one of the library's algorithms that give all of them the same bits.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import distributed

from sil_cli.errors import SilError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class LostProcessError(SilError):
    """Another process has ended or stopped responding."""


def gather(values: Tensor) -> list[Tensor]:
    """The values of every process, in their order; the shapes must be equal."""
    values = values.contiguous()
    gathered = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    with _lost_where_it_fails():
        distributed.all_gather(gathered, values)
    return gathered


def add_up(values: Tensor) -> None:
    """Replace values by their sum over all processes."""
    with _lost_where_it_fails():
        distributed.all_reduce(values)


def take_from_first(values: Tensor) -> None:
    """Replace values by those of the first process."""
    with _lost_where_it_fails():
        distributed.broadcast(values, src=0)


@contextlib.contextmanager
def _lost_where_it_fails() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own for a closed connection or for a timeout
        raise LostProcessError("Another process has ended or stopped responding.", "Look at its output.") from error
