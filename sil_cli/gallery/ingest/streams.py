"""Paths that come as a stream, one a line, such as those of `find` or of a camera that goes on."""

from __future__ import annotations

import codecs
import io
import os
import threading
import time
from itertools import chain
from queue import Empty, Queue
from typing import TYPE_CHECKING, BinaryIO

from sil_cli.files import BYTE_ORDER_MARKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    coming: Queue[list[bytes] | None] = Queue(_CHUNKS_AHEAD)
    threading.Thread(target=_read_lines, args=(stream, coming), daemon=True, name="sil-paths").start()
    while (lines := coming.get()) is not None:
        deadline = time.monotonic() + linger
        more: list[bytes] | None = lines
        while more is not None:
            while len(lines) >= at_most:
                yield lines[:at_most]
                lines = lines[at_most:]
            try:
                more = coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            lines += more or []
        if lines:
            yield lines
        if more is None:
            return


def split_lines(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The lines that each chunk completes, as bytes of UTF-8; what begins as another Unicode by its mark is decoded."""
    end, rest = b"\n", b""
    for chunk in _in_utf8(iter(chunks)):
        if b"\0" in chunk:
            end = b"\0"
        *lines, rest = (rest + chunk).split(end)
        yield [line for line in (each.removesuffix(b"\r") for each in lines) if line]
    last = rest.removesuffix(b"\r")
    yield [last] if last else []


def _in_utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What Notepad and PowerShell write (a mark, or UTF-16 after one) as plain UTF-8; all else as it is."""
    begun = b""
    for chunk in chunks:
        begun += chunk
        if not any(mark.startswith(begun) for mark in BYTE_ORDER_MARKS):
            break
    mark = next((mark for mark in BYTE_ORDER_MARKS if begun.startswith(mark)), b"")
    raw = chain([begun.removeprefix(mark)], chunks)
    yield from (
        raw
        if not mark
        else (text.encode() for text in codecs.iterdecode(raw, BYTE_ORDER_MARKS[mark], "backslashreplace"))
    )


def _read_lines(stream: BinaryIO, coming: Queue[list[bytes] | None]) -> None:
    """Put the lines that each chunk of a stream completes into a queue, and None at its end."""
    for lines in split_lines(_chunks(stream)):
        coming.put(lines)
    coming.put(None)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    # Not through the buffered object where there is a file below it: a thread that waits inside its lock
    # would keep Python from ending.
    try:
        handle = stream.fileno()
    except (OSError, io.UnsupportedOperation):
        yield from iter(lambda: stream.read(_CHUNK_BYTES), b"")
        return
    try:
        yield from iter(lambda: os.read(handle, _CHUNK_BYTES), b"")
    except OSError:  # a terminal that went away: nothing more will come
        return
