"""What each of several processes did, and when: `logs/rank-N.log` in the run folder."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sil_cli.files import make_own_folder, one_line, open_no_link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TextIO

    from sil_cli.runtime import Reporter, Task

LOGS = "logs"
SECONDS_BETWEEN_LINES = 30.0


class RankLog:
    """A `Reporter` that writes lines with their time, and passes everything on to another one.

    Lines from before the file is opened are kept for it.
    """

    def __init__(self, number: int, then: Reporter) -> None:
        self._number = number
        self._then = then
        self._waiting: list[str] = []
        self._file: TextIO | None = None
        self._write(f"process {number} is {os.getpid()} on {socket.gethostname()}")

    @contextlib.contextmanager
    def opened(self, run: Path) -> Iterator[None]:
        """Write to the run's folder until the block ends, and how it ended; what stood in the file stays."""
        path = make_own_folder(run, LOGS) / f"rank-{self._number}.log"
        handle = open_no_link(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        with os.fdopen(handle, "a", encoding="utf-8") as self._file:
            try:
                self._file.writelines(self._waiting)
                self._waiting.clear()
                yield
            except BaseException as error:
                self._write(f"ended by {type(error).__name__}: {one_line(error)}")
                if error.__cause__ is not None:
                    self._write(f"because of {type(error.__cause__).__name__}: {one_line(error.__cause__)}")
                raise
            else:
                self._write("done")
            finally:
                self._file = None

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """Open a piece of work."""
        self._write(f"{label}: begun, {total} {unit}")
        with self._then.task(label, total, unit) as then:
            yield _LoggedTask(self._write, label, then)
        self._write(f"{label}: done")

    def note(self, text: str) -> None:
        """Write a note."""
        self._write(text)
        self._then.note(text)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self._write(f"warning: {text}")
        self._then.warn(text)

    def _write(self, text: str) -> None:
        line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n"
        if self._file is None:
            self._waiting.append(line)
            return
        with contextlib.suppress(OSError):  # a full disk is told of by whoever writes what matters
            self._file.write(line)
            self._file.flush()


class _LoggedTask:
    def __init__(self, write: Callable[[str], None], label: str, then: Task) -> None:
        self._write, self._label, self._then = write, label, then
        self._done = 0
        self._written = time.monotonic()

    def advance(self, count: int = 1, **facts: float | str) -> None:
        """Write a line every half minute."""
        self._done += count
        self._then.advance(count, **facts)
        if time.monotonic() - self._written >= SECONDS_BETWEEN_LINES:
            self._written = time.monotonic()
            self._write(f"{self._label}: {self._done} {' '.join(f'{key}={value}' for key, value in facts.items())}")
