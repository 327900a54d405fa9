"""What is shown to people: text, tables and progress; names from outside can't colour it or break its lines."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from rich import box, markup
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sil_cli.errors import sayable, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from rich.progress import TaskID

    from sil_cli.gallery.results import Policy
    from sil_cli.runtime import Reporter, StopRequest, Task
    from sil_cli.search.trajectory import CameraVisit
    from sil_cli.settings import Settings


def escape(text: object) -> str:
    """Text from outside, for a place that takes markup: shown as it is, on one line."""
    return markup.escape(visible(str(text)))


class Terminal(Console):
    """A console that obeys no control character in what it prints, only line ends; emoji codes stay as written."""

    def __init__(self, **options: Any) -> None:
        if os.environ.get("COLUMNS", "").strip() == "0":  # as containers set it; rich would print nothing at all
            options["width"] = 80
        super().__init__(emoji=False, **options)

    @property
    def is_bounded(self) -> bool:
        """Whether lines have an end: in a terminal, or where COLUMNS says so; in a pipe they have none."""
        return self.is_terminal or "COLUMNS" in os.environ

    def length(self, text: str) -> int:
        """The cells that the longest line of some markup takes here."""
        lines = sayable(text, self.encoding).splitlines()
        return max((Text.from_markup(line, emoji=False).cell_len for line in lines), default=0)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text on its way out, be it printed or in a table; `escape` has done most of them before."""
        return super().render_str(sayable(visible(text, lines=True), self.encoding), **options)

    def on_broken_pipe(self) -> None:
        """Tell the caller that nobody reads any more; rich itself would end the program here."""
        raise BrokenPipeError


def print_table(
    out: Terminal,
    title: str,
    columns: Mapping[str, Sequence[str]],
    *,
    left: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Print a table; every cell is seen whole, at any width, and in a pipe each row is one line.

    Args:
        out: Where it goes, and how wide that is.
        title: Above the table, as markup; '' for none.
        columns: Cells by their column's name, as markup; columns of empty cells are left out.
        left: Columns of words, which stand at the left; numbers stand at the right.
        optional: Columns to leave out, the first ones first, until the terminal is wide enough for the rest.
    """
    known = {name: list(cells) for name, cells in columns.items() if any(cells)}
    if not known:
        return
    kept = _fitting(out, known, optional) if out.is_bounded else known
    if out.is_bounded and _width(out, kept) > out.width:
        turned = _turned(known)
        if _width(out, turned) <= out.width:
            _print_rows(out, title, turned, [*turned][:1])
        else:
            _print_blocks(out, title, known)
        return
    _print_rows(out, title, kept, left)
    if len(kept) < len(known):
        names = ", ".join(name.strip() or "whether it is right" for name in known if name not in kept)
        out.print(f"  This terminal has no room for: {names}. --json has all.", highlight=False, soft_wrap=True)


def _fitting(
    out: Terminal, columns: Mapping[str, Sequence[str]], optional: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    """The columns without as many of the optional ones as must go for the rest to fit."""
    dropped: set[str] = set()

    def kept() -> dict[str, Sequence[str]]:
        return {name: cells for name, cells in columns.items() if name not in dropped}

    for name in optional:
        if _width(out, kept()) <= out.width:
            break
        dropped.add(name)
    for name in reversed(optional):  # a wide column that had to go may leave room for narrow ones
        if name in dropped:
            dropped.remove(name)
            if _width(out, kept()) > out.width:
                dropped.add(name)
    return kept()


def print_facts(out: Terminal, title: str, facts: Mapping[str, str]) -> None:
    """Print what is known of one thing, a line for each fact.

    Args:
        out: Where it goes.
        title: Above them, as markup.
        facts: Markup by name; what lies on several lines stays so.
    """
    out.print(title, style="italic", highlight=False, soft_wrap=True)
    longest = max(len(name) for name in facts)
    for name, value in facts.items():
        for number, line in enumerate(value.splitlines() or [""]):
            out.print(f"  {'' if number else name:<{longest}}  {line}", highlight=False, soft_wrap=True)


def _print_rows(out: Terminal, title: str, columns: Mapping[str, Sequence[str]], left: Sequence[str]) -> None:
    if title:
        out.print(title, style="italic", highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    table.width = _width(out, columns)
    out.print(table, crop=False)


def _print_blocks(out: Terminal, title: str, columns: Mapping[str, Sequence[str]]) -> None:
    """Row after row, each as lines of a column's name and the cell."""
    for number, cells in enumerate(zip(*columns.values(), strict=True)):
        facts = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
        print_facts(out, title if number == 0 else "", facts)


def _turned(columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Rows for columns; the first column's cells are the names."""
    (corner, names), *rest = columns.items()
    names = [name or " " * (number + 1) for number, name in enumerate(names)]
    turned = {corner: [column for column, _ in rest]}
    return turned | {name: [cells[number] for _, cells in rest] for number, name in enumerate(names)}


def _width(out: Terminal, columns: Mapping[str, Sequence[str]]) -> int:
    """The characters of a table's line: a cell's own, one behind it, and one between two columns."""
    widths = [max(out.length(each) for each in (name, *cells)) for name, cells in columns.items()]
    return sum(widths) + 2 * len(widths) - 1


SIGNS = {"match": "● match", "possible": "◐ possible", "no match": "○ no match", None: ""}
"""What stands in a table for a decision."""


def time_writer(settings: Settings) -> Callable[..., str]:
    """What writes a time, or none, in the gallery's time zone: `write(time, length=16)`, down to minutes."""
    from sil_cli.gallery.entry import in_utc
    from sil_cli.settings import find_zone

    zone = find_zone(settings.gallery.timezone)

    def write(time: datetime | None, length: int = 16) -> str:
        return "" if time is None else in_utc(time).astimezone(zone).isoformat(sep=" ")[:length]

    return write


def print_trail(out: Terminal, trail: Sequence[CameraVisit], write_time: Callable[..., str]) -> None:
    """Print a person's path through the cameras, with times as a `time_writer` writes them."""
    from sil_cli.search.trajectory_drawing import duration

    lengths = [(one.end - one.start).total_seconds() if one.start and one.end else 0.0 for one in trail]
    columns = {
        "camera": [escape(one.camera) for one in trail],
        "from": [write_time(one.start, 19) or "unknown" for one in trail],
        "for": [duration(length) if length else "" for length in lengths],
        "after": [duration(one.seconds_after) if one.seconds_after is not None else "" for one in trail],
        "images": [str(one.images) for one in trail],
        "best": [f"{one.score:.4f}" for one in trail],
        "decision": [SIGNS[one.decision] for one in trail],
        "note": ["elsewhere at once" if one.at_once else "" for one in trail],
    }
    least = ("note", "after", "for", "images", "decision")
    print_table(out, "Path through the network", columns, left=("camera", "from", "decision", "note"), optional=least)


def policy_facts(policy: Policy) -> dict[str, str]:
    """What is said of a policy, by name; nothing of what it leaves open."""
    facts = {"purpose": escape(policy.purpose or ""), "legal basis": escape(policy.legal_basis or "")}
    facts["kept for"] = f"{policy.keep_days:g} days" if policy.keep_days is not None else ""
    facts["by camera"] = "\n".join(f"{escape(one)}: {days:g} days" for one, days in policy.camera_keep_days.items())
    facts["log"] = "searches, decisions, removals and exports are logged" if policy.log else ""
    facts["log kept for"] = f"{policy.log_keep_days:g} days" if policy.log_keep_days is not None else ""
    facts["searches"] = "must say what they are for" if policy.require_purpose else ""
    return {name: text for name, text in facts.items() if text}


SECONDS_BETWEEN_LINES = 10.0


def make_reporter(console: Console, stop: StopRequest) -> Reporter:
    """Bars where `console` is a terminal, plain lines where it is a file or a pipe.

    Args:
        console: Where they go.
        stop: Work that says how far it is stops there once that is asked for.
    """
    return BarReporter(console, stop) if console.is_terminal else LineReporter(console, stop)


class _Messages:
    def __init__(self, console: Console, stop: StopRequest) -> None:
        self.console = console
        self.stop = stop

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
            SpinnerColumn("line" if self.console.options.ascii_only else "dots"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[facts]}", style="cyan"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        self.stop.check()
        with Progress(*columns, console=self.console) as progress:
            task_id = progress.add_task(escape(label), total=total, unit=unit, facts="")
            yield _BarTask(progress, task_id, self.stop)


class _BarTask:
    def __init__(self, progress: Progress, task_id: TaskID, stop: StopRequest) -> None:
        self._progress = progress
        self._stop = stop
        self._id = task_id
        self._rate = _Rate()

    def advance(self, count: int = 1, **facts: float | str) -> None:
        self._stop.check()
        shown = facts or self._rate.after(count)
        self._progress.update(self._id, advance=count, facts=describe(shown))


class LineReporter(_Messages):
    """Progress as plain lines, at most one every ten seconds, and one at the end."""

    @contextlib.contextmanager
    def task(self, label: str, total: int | None, unit: str = "") -> Iterator[Task]:
        """Print lines until the block ends."""
        self.stop.check()
        task = _LineTask(self.console, self.stop, label, total, unit)
        yield task
        task.end()


class _LineTask:
    def __init__(self, console: Console, stop: StopRequest, label: str, total: int | None, unit: str) -> None:
        self._console = console
        self._stop = stop
        self._label, self._total, self._unit = label, total, unit
        self._done = 0
        self._facts: dict[str, float | str] = {}
        self._rate = _Rate()
        self._started = self._printed = time.monotonic()

    def advance(self, count: int = 1, **facts: float | str) -> None:
        self._stop.check()
        self._done += count
        self._facts = facts or self._rate.after(count)
        now = time.monotonic()
        if now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            left = ""
            if self._total and self._done:
                seconds = (now - self._started) / self._done * (self._total - self._done)
                left = f", {seconds:.0f} s left"
            so_far = f"{self._counted()} {describe(self._facts)}{left}"
            self._print(so_far if self._unit else f"{self._label}: {now - self._started:.0f} s so far")

    def end(self) -> None:
        seconds = time.monotonic() - self._started
        if not self._unit:  # steps that nobody counts
            self._print(f"{self._label}: done in {seconds:.1f} s")
        else:
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
        return {"rate": _per_second(self._done / seconds, "/s")} if seconds > 1 and self._done else {}


def _per_second(rate: float, unit: str) -> str:
    """`120 images/s`; below one a second, `2.5 s each`."""
    if rate >= 1:
        return f"{rate:,.0f}{unit}"
    return f"{1 / rate:,.1f} s each" if rate > 0 else ""


def describe(facts: dict[str, float | str]) -> str:
    """`loss 0.1234  120 images/s` from facts by name."""
    parts = []
    for name, value in facts.items():
        if name == "images_per_second":
            parts.append(_per_second(float(value), " images/s"))
        elif name == "rate":
            parts.append(str(value))
        else:
            parts.append(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}")
    return "  ".join(parts)
