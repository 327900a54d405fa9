"""One batch ahead: while an iteration runs, a thread makes the batches of the next one.

Batches are pure functions of the iteration's number, so nothing that is made ahead has to be saved: a run that stops
and goes on makes the same ones again. One thread is enough, since reading, copying and augmenting let go of the
interpreter; worker processes, and their copies of the data, are not needed.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from sil_cli.training.step import Batch

    Prepared = tuple[list[Batch], np.random.Generator]


class Prefetcher:
    """Makes the batches of the next iteration while those of this one are used; a context manager.

    On CUDA they are copied and augmented in a stream of their own, beside the running step.

    Args:
        prepare: Makes the batches of an iteration, with the generator that goes on drawing in its step. Is called in
            a thread, for one iteration at a time, with each number once as a rule.
        end: The first iteration that is never asked for.
        device: Where the batches go.
    """

    def __init__(self, prepare: Callable[[int], Prepared], *, end: int, device: torch.device) -> None:
        self._prepare = prepare
        self._end = end
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sil-batches")
        self._next: tuple[int, Future[Prepared]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, iteration: int) -> Prepared:
        """The batches of an iteration; those of the one after it are begun.

        Raises:
            Exception: What `prepare` raised for this iteration.
        """
        expected, future = self._next or (None, None)
        if future is None or expected != iteration:
            future = self._pool.submit(self._make, iteration)
        batches, rng = future.result()
        after = iteration + 1
        self._next = (after, self._pool.submit(self._make, after)) if after < self._end else None
        self._hand_over(batches)
        return batches, rng

    def _make(self, iteration: int) -> Prepared:
        with torch.cuda.stream(self._stream) if self._stream else contextlib.nullcontext():
            prepared = self._prepare(iteration)
        if self._stream:
            self._stream.synchronize()  # in this thread: whoever takes the batches finds them finished
        return prepared

    def _hand_over(self, batches: list[Batch]) -> None:
        """Keep the memory of batches made in another stream until the taker's stream is done with it."""
        if self._stream:
            current = torch.cuda.current_stream(self._stream.device)
            for batch in batches:
                batch.images.record_stream(current)
