from __future__ import annotations

import io
import os
import threading

import pytest

from sil_cli.gallery.ingest.streams import portions_of_lines


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
        (b"\xff\xfe\n", [b"\xff\xfe"]),
    ],
)
def test_lines_end_with_newlines_or_zeros(content, lines):
    assert [line for portion in portions(content) for line in portion] == lines


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
