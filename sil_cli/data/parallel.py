"""Doing the same thing to many files at once, with results in order and a prompt end."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

CHUNK = 32
"""Results come in lists of so many."""

_CHUNKS_AHEAD = 4

_END = object()

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_order(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, workers: int
) -> Generator[list[_Result], None, None]:
    """Apply `function` to all items in threads; yield its results in order, in lists of up to 32.

    Threads suit image decoding: PIL's decoders and its resize let go of the interpreter. Only a few lists per
    worker are under way at any time, so memory stays flat. When the generator is closed early, every worker ends
    after the item at hand; hold it in `contextlib.closing`, so that Ctrl-C closes it at once.
    """
    stop = Event()

    def run(start: int) -> list[_Result]:
        results: list[_Result] = []
        for item in items[start : start + CHUNK]:
            if stop.is_set():
                break
            results.append(function(item))
        return results

    workers = max(1, workers)
    waiting: deque[Future[list[_Result]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="sil-images") as pool:
        try:
            for start in range(0, len(items), CHUNK):
                waiting.append(pool.submit(run, start))
                if len(waiting) > workers * _CHUNKS_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def one_ahead(items: Generator[_Item, None, None]) -> Generator[_Item, None, None]:
    """The same items, each made in a thread while the one before it is being used.

    What makes them runs in that thread alone, and is closed when this is closed; hold it in `contextlib.closing`.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sil-ahead") as pool, closing(items):
        try:
            coming = pool.submit(next, items, _END)
            while (item := coming.result()) is not _END:
                coming = pool.submit(next, items, _END)
                yield cast("_Item", item)
        finally:
            pool.shutdown(cancel_futures=True)
