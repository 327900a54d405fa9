"""Progress of long work: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from sil_cli.cli.terminal import escape
from sil_cli.files import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import TaskID

    from sil_cli.runtime import Reporter, Task

SECONDS_BETWEEN_LINES = 10.0


def make_reporter(console: Console) -> Reporter:
    """Bars where `console` is a terminal, plain lines where it is a file or a pipe."""
    return BarReporter(console) if console.is_terminal else LineReporter(console)


class _Messages:
    def __init__(self, console: Console) -> None:
        self.console = console

    def note(self, text: str) -> None:
        """Print a note."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.console.print(f"[yellow]Warning:[/yellow] {escape(text)}", highlight=False, soft_wrap=True)


class BarReporter(_Messages):
    """Progress bars by rich: share done, rate, facts, time left."""

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """Show a bar until the block ends."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[facts]}", style="cyan"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=self.console) as progress:
            task_id = progress.add_task(escape(label), total=total, unit=unit, facts="")
            yield _BarTask(progress, task_id)


class _BarTask:
    def __init__(self, progress: Progress, task_id: TaskID) -> None:
        self._progress = progress
        self._id = task_id
        self._rate = _Rate()

    def advance(self, count: int = 1, **facts: float | str) -> None:
        shown = facts or self._rate.after(count)
        self._progress.update(self._id, advance=count, facts=describe(shown))


class LineReporter(_Messages):
    """Progress as plain lines, at most one every ten seconds, and one at the end."""

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """Print lines until the block ends."""
        task = _LineTask(self.console, label, total, unit)
        yield task
        task.end()


class _LineTask:
    def __init__(self, console: Console, label: str, total: int | None, unit: str) -> None:
        self._console = console
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._facts: dict[str, float | str] = {}
        self._rate = _Rate()
        self._started = self._printed = time.monotonic()

    def advance(self, count: int = 1, **facts: float | str) -> None:
        self._done += count
        self._facts = facts or self._rate.after(count)
        now = time.monotonic()
        if now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            left = ""
            if self._total and self._done:
                seconds = (now - self._started) / self._done * (self._total - self._done)
                left = f", {seconds:.0f} s left"
            self._print(f"{self._counted()} {describe(self._facts)}{left}")

    def end(self) -> None:
        seconds = time.monotonic() - self._started
        self._print(f"{self._counted()} in {seconds:.1f} s {describe(self._facts)}")

    def _counted(self) -> str:
        of_total = f"/{self._total}" if self._total is not None else ""
        return f"{self._label}: {self._done}{of_total} {self._unit}"

    def _print(self, line: str) -> None:
        self._console.print(Text(visible(line.rstrip())), highlight=False, soft_wrap=True)


class _Rate:
    """Units a second since the first, for tasks that name no facts of their own."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._done = 0

    def after(self, count: int) -> dict[str, float | str]:
        self._done += count
        seconds = time.monotonic() - self._started
        return {"rate": f"{self._done / seconds:,.0f}/s"} if seconds > 1 else {}


def describe(facts: dict[str, float | str]) -> str:
    """`loss 0.1234  120 images/s` from facts by name."""
    parts = []
    for name, value in facts.items():
        if name == "images_per_second":
            parts.append(f"{value:,.0f} images/s")
        elif name == "rate":
            parts.append(str(value))
        else:
            parts.append(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}")
    return "  ".join(parts)
