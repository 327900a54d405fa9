"""What processes apart are made to do by tests/test_limited_process.py: as programs, they need a module to import."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import TYPE_CHECKING

from sil_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator


def echo(*words: str) -> Iterator[bytes]:
    os.write(1, b"a library prints")
    for word in words:
        yield word.encode() * 100_000


def crash(*_: str) -> Iterator[bytes]:
    yield b"1"
    ctypes.string_at(0)


def spin() -> Iterator[bytes]:
    yield b"1"
    while True:
        pass


def wait(seconds: str) -> Iterator[bytes]:
    yield str(os.getpid()).encode()
    time.sleep(float(seconds))


def grow() -> Iterator[bytes]:
    yield b"1"
    held = [bytes(1 << 24) for _ in range(1000)]
    yield str(len(held)).encode()


def fail() -> Iterator[bytes]:
    yield b"1"
    raise DataError("It is wrong.", "Mend it.")


def stumble() -> Iterator[bytes]:
    yield b"1"
    raise KeyError


def loaded(name: str) -> Iterator[bytes]:
    __import__(name)
    yield b" ".join(each.encode() for each in ("torch", "scipy", "pydantic", "pytest") if each in sys.modules)
