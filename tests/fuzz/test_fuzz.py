"""A few examples of what `make fuzz` tries for minutes."""

from __future__ import annotations

import pytest
from fuzz.parsers import PARSERS
from fuzz.run import changed, work


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
def test_what_strangers_write_ends_as_an_error_of_ours(tmp_path, monkeypatch, name) -> None:
    monkeypatch.chdir(tmp_path)
    work(name, seconds=0, count=20)


def test_edits_change_tokens_or_bytes() -> None:
    text = b'{"a": 12}'
    assert changed(text, [("put", 4, 0, 0)], text=True) == b'{"a": 0}'
    assert changed(text, [("copy", 1, 4, 0)], text=True) == b"{12: 12}"
    assert changed(text, [("drop", 0, 0, 0), ("cut", 1, 0, 0)], text=True) == b'"a"'
    assert changed(b"\x00" * 4, [("number", 1, 2, 5)], text=False) == b"\x00\x00\xff\x00"
    assert changed(b"abcd", [("byte", 1, 0, 65), ("drop", 2, 0, 1)], text=False) == b"aAd"
