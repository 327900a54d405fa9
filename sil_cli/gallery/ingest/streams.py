"""Paths that come as a stream, one a line, such as those of `find` or of a camera that goes on."""

from __future__ import annotations

import io
import os
import threading
import time
from queue import Empty, Queue
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 2**16
_CHUNKS_AHEAD = 64


def portions_of_lines(stream: BinaryIO, *, at_most: int, linger: float) -> Iterator[list[bytes]]:
    """Lines in portions: as many as come within `linger` seconds of the first, but not more than `at_most`.

    Lines end with a newline, or with a zero byte where there is one (`find -print0`); empty ones are passed over.

    Args:
        stream: What is read, by a thread of its own.
        at_most: Lines in a portion.
        linger: Seconds that a line may wait for others to share its portion.
    """
    chunks: Queue[bytes] = Queue(_CHUNKS_AHEAD)
    threading.Thread(target=_read_into, args=(chunks, stream), daemon=True, name="sil-paths").start()
    splitter = _Splitter()
    waiting: list[bytes] = []
    while not splitter.ended:
        waiting += splitter.split(chunks.get())
        deadline = time.monotonic() + linger
        while not splitter.ended:
            while len(waiting) >= at_most:
                yield waiting[:at_most]
                del waiting[:at_most]
            try:
                chunk = chunks.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            waiting += splitter.split(chunk)
        while waiting:
            yield waiting[:at_most]
            del waiting[:at_most]


class _Splitter:
    """Cuts chunks of bytes into lines."""

    def __init__(self) -> None:
        self.ended = False
        self._end = b"\n"
        self._rest = b""

    def split(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes; an empty chunk is the end of all."""
        self.ended = not chunk
        text = self._rest + chunk
        if b"\0" in chunk:
            self._end = b"\0"
        *lines, self._rest = text.split(self._end)
        if self.ended:
            lines.append(self._rest)
        return [line for line in (each.removesuffix(b"\r") for each in lines) if line]


def _read_into(chunks: Queue[bytes], stream: BinaryIO) -> None:
    # Not through the buffered object where there is a file below it: a thread that waits inside its lock
    # would keep Python from ending.
    try:
        handle = stream.fileno()
    except (OSError, io.UnsupportedOperation):
        while chunk := stream.read(_CHUNK_BYTES):
            chunks.put(chunk)
    else:
        while chunk := _read(handle):
            chunks.put(chunk)
    chunks.put(b"")


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, _CHUNK_BYTES)
    except OSError:  # a terminal that went away: nothing more will come
        return b""
