"""Processes played by threads, so that a test needs no torchrun."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from sil_cli.distributed.process_group import ProcessGroup

SECONDS = 60


class Table:
    """Where they lay down what they tell each other."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.places: list[Any] = [None] * count
        self.barrier = threading.Barrier(count, timeout=SECONDS)


class ThreadGroup(ProcessGroup):
    """One of them."""

    def __init__(self, rank: int, table: Table) -> None:
        super().__init__(rank, table.count)
        self._table = table

    def _all(self, mine: Any) -> list[Any]:
        self._table.places[self.rank] = mine
        self._table.barrier.wait()
        everyone = list(self._table.places)
        self._table.barrier.wait()
        return everyone

    def gather_rows(self, rows: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        everyone = self._all(rows)
        assert [len(each) for each in everyone] == list(lengths)
        return torch.cat(everyone)

    def gather_texts(self, text: str) -> list[str]:
        return self._all(text)

    def from_first(self, make: Callable[[], bytes]) -> bytes:
        return self._all(make() if self.is_first else None)[0]


def in_threads(count: int, work: Callable[[ProcessGroup], Any]) -> list[Any]:
    """What each of so many comes to."""
    table = Table(count)

    def one(number: int) -> Any:
        try:
            return work(ThreadGroup(number, table))
        except BaseException:
            table.barrier.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(one, number) for number in range(count)]]
