from __future__ import annotations

import io
import os
import threading
from itertools import chain

import pytest

from sil_cli.gallery.ingest.streams import portions_of_lines, split_lines


def portions(content: bytes, at_most: int = 3):
    return list(portions_of_lines(io.BytesIO(content), at_most=at_most, linger=5))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b" a b \n", [b" a b "]),
        (b"a\0b\nc\0", [b"a", b"b\nc"]),
        (b"\xfe\n", [b"\xfe"]),
        (b"\xef\xbb\xbfa\r\nb\r\n", [b"a", b"b"]),
        (b"\xef\xbb\xbf", []),
        ("\ufeffZo\u00eb \U0001f600\r\nb".encode("utf-16-le"), ["Zo\u00eb \U0001f600".encode(), b"b"]),
        ("\ufeffa\nb\n".encode("utf-16-be"), [b"a", b"b"]),
        ("\ufeffa\0b\0".encode("utf-16-le"), [b"a", b"b"]),
        ("\ufeffa\nb\n".encode("utf-32-le"), [b"a", b"b"]),
        ("\ufeffa\n".encode("utf-16-le") + b"\x62", [b"a", b"\\x62"]),
    ],
)
def test_lines_end_with_newlines_or_zeros(content, lines):
    assert [line for portion in portions(content) for line in portion] == lines


def test_a_mark_may_come_in_pieces():
    content = "\ufeffa\u00e9\r\nb".encode("utf-16-le")
    assert list(chain(*split_lines(bytes([one]) for one in content))) == ["a\u00e9".encode(), b"b"]


def test_portions_are_bounded_and_lose_nothing():
    lines = [f"{number}.jpg".encode() for number in range(20_000)]
    found = portions(b"\n".join(lines), at_most=7)
    assert [line for portion in found for line in portion] == lines
    assert {len(portion) for portion in found[:-1]} == {7}


def test_a_line_need_not_wait_for_the_streams_end():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        found = portions_of_lines(stream, at_most=10, linger=0.01)
        os.write(writing, b"first\nsec")
        assert next(found) == [b"first"]
        threading.Timer(0.05, lambda: (os.write(writing, b"ond\n"), os.close(writing))).start()
        assert next(found) == [b"second"]
        assert list(found) == []
