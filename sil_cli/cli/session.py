"""What every command shares: consoles, the JSON contract, errors as two lines and an exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape as escape_markup

from sil_cli.cli.terminal import Terminal, escape, make_reporter
from sil_cli.errors import AlreadyReportedError, InterruptedWorkError, SilError, UsageError, json_for_terminals
from sil_cli.files import access, concerned
from sil_cli.runtime import SINGLE_LAUNCH, Launch, SilentReporter, StopRequest, hear_interrupts, read_launch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

OS_ERRORS = {
    errno.ENOSPC: ("The disk is full", "Free some space and run the same command again; finished work is kept."),
    errno.EDQUOT: ("The disk quota is used up", "Free some space and run the same command again."),
    errno.EFBIG: (
        "A file would be larger than the limit on file sizes or the file system allows",
        "Raise the limit (`ulimit -f`), or choose a folder on another file system.",
    ),
    errno.EACCES: ("Permission denied", "Choose another folder, or change its permissions."),
    errno.EPERM: ("Permission denied", "Choose another folder, or change its permissions."),
    errno.EROFS: ("The file system is read-only", "Choose a folder on another file system."),
    errno.ENOTDIR: ("A part of the path is a file, not a folder", "Choose another path."),
    errno.EISDIR: ("The path is a folder, not a file", "Choose another path."),
    errno.ELOOP: ("A link leads back to itself", "Correct it, or choose another path."),
    errno.EMFILE: ("Too many files are open", "Raise the limit with `ulimit -n`."),
}


_LONGEST_PLACE = 500  # characters of a path in a message


@dataclass(frozen=True)
class Common:
    """The options that every command takes.

    Attributes:
        config: `--config`.
        assignments: `--set`, as KEY=VALUE.
        as_json: `--json`.
        debug: `--debug`.
    """

    config: Path | None
    assignments: list[str]
    as_json: bool
    debug: bool


class Session:
    """One command's run: resolves settings, shows progress, ends with tables or with one JSON document.

    Attributes:
        given: What each option was given by its name, None where it was not.
        options: The same as nested settings, of those options that are settings.
        launch: What torchrun says of the processes.
        stop: Whether Ctrl-C or SIGTERM has come.
        reporter: Shows progress, notes and warnings.
        until_the_end: What is undone when the command ends.
        is_complete: Whether all that was asked for by name was done; if not, a command that answers ends with code 1.
    """

    def __init__(self, common: Common, launch: Launch = SINGLE_LAUNCH) -> None:
        self.common = common
        self.launch = launch
        self.until_the_end = contextlib.ExitStack()
        self.is_complete = True
        self.given: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.messages = Terminal(stderr=True)
        self.out = Terminal(quiet=common.as_json or not launch.is_first)
        self.stop = StopRequest()
        self.reporter: Reporter = make_reporter(self.messages, self.stop) if launch.is_first else SilentReporter()

    def settings(self, more: dict[str, Any] | None = None) -> Settings:
        """Resolve the settings of this command; from here on, they say who may read what is written.

        Args:
            more: Nested values that follow from options which are no settings themselves; None values are left out.

        Raises:
            UsageError: A key or a value is wrong.
        """
        from sil_cli.settings import load_settings

        settings = load_settings(flags=self.flags(more), config=self.common.config)
        self.until_the_end.enter_context(access(shared=settings.shared))
        return settings

    def flags(self, more: dict[str, Any] | None = None) -> dict[str, Any]:
        """The nested values that the command line gave, `--set` weaker than the option made for a key."""
        from sil_cli.settings import merge, parse_assignment

        nested: dict[str, Any] = {}
        for assignment in self.common.assignments:
            nested = merge(nested, parse_assignment(assignment))
        return merge(merge(nested, self.options), _without_none(more or {}))

    def say(self, text: str) -> None:
        """Print a line of markup that the terminal may break, and we don't."""
        self.out.print(text, highlight=False, soft_wrap=True)

    def name_first(self, items: Sequence[str], count: int = 10) -> None:
        """Warn of the first of many things, and say how many more there are."""
        for item in items[:count]:
            self.reporter.warn(item)
        if len(items) > count:
            self.reporter.warn(f"… and {len(items) - count:,} more; --json names all.")

    def finish(self, result: BaseModel) -> None:
        """Print the one JSON document, where it was asked for.

        Raises:
            KeyboardInterrupt: Ctrl-C had come, and got lost on its way here.
        """
        self.stop.check()
        if self.common.as_json and self.launch.is_first:
            print_json(result.model_dump(mode="json"))

    def next_command(self, made: str, command: str | None = None) -> None:
        """Say what was made and which command comes next."""
        self.out.print()
        self.say(f"[green]✓[/green] {escape(made)}")
        if command:
            self.say(f"  Next: [bold cyan]{escape(command)}[/bold cyan]")


@contextlib.contextmanager
def session(common: Common, *, several: bool = False) -> Iterator[Session]:
    """Run a command; whatever goes wrong becomes two lines on stderr and an exit code.

    Args:
        common: The options that every command takes.
        several: Several processes can run the command together, which torchrun starts.

    Raises:
        typer.Exit: With code 1 (failed), 2 (wrong usage or settings) or 130 (interrupted).
    """
    current = Session(common)
    try:
        current = Session(common, read_launch())
        with _together(current.launch, current.stop, several=several), current.until_the_end:
            yield current
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        # Whoever read stdout has left (`sil query … | head`): nothing is left to say, and nobody to say it to.
        let_go_of_stdout()
        raise typer.Exit(1) from None
    except BaseException as error:
        if common.debug and not isinstance(error, InterruptedWorkError):
            traced = "".join(traceback.format_exception(error))
            current.messages.print(escape_markup(traced), highlight=False)
        reported = as_sil_error(error)
        if not isinstance(reported, AlreadyReportedError):
            # Of several processes that will be started again, the one document is that of the last attempt.
            tell(reported, current.messages, as_json=common.as_json and current.launch.is_last)
        raise typer.Exit(reported.exit_code) from None


def tell(error: SilError, messages: Terminal, *, as_json: bool) -> None:
    """Say what went wrong and what to do: two lines on stderr, and the one document where it was asked for.

    What can't be said, because stderr or stdout is closed or full, is left unsaid.
    """
    with contextlib.suppress(OSError):
        messages.print(f"[bold red]Error:[/bold red] {escape(error.what)}", highlight=False, soft_wrap=True)
        messages.print(f"       {escape(error.fix)}", highlight=False, soft_wrap=True)
    if as_json:
        try:
            print_json({"error": {"what": error.what, "fix": error.fix, "exit_code": error.exit_code}})
        except OSError:
            let_go_of_stdout()


def let_go_of_stdout() -> None:
    """Send what stdout still holds to nowhere: when the program ends Python would try, and fail, to write it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _together(launch: Launch, stop: StopRequest, *, several: bool) -> contextlib.AbstractContextManager[None]:
    """Around the work of a command in each of its processes."""
    if launch.world_size == 1:
        return hear_interrupts(stop)
    if not several:
        if not launch.is_first:
            raise AlreadyReportedError(UsageError.exit_code)
        raise UsageError(
            "torchrun can run `sil train` and `sil index-gallery` only.", "Run this command without torchrun."
        )
    from sil_cli.distributed.command import one_voice

    return one_voice(launch)


def print_json(document: object) -> None:
    """Write one JSON document to stdout, if that is open.

    What a terminal obeys, and halves of characters, which stand for bytes of names that are not UTF-8, are written as
    escapes of JSON.
    """
    if sys.stdout is None:  # closed by whoever started the program
        return
    utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    text = json.dumps(document, indent=2, ensure_ascii=not utf8, allow_nan=False)
    sys.stdout.write(json_for_terminals(text) + "\n")
    sys.stdout.flush()


def as_sil_error(error: BaseException) -> SilError:
    """An error of any kind as a user sees it."""
    if isinstance(error, SilError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return InterruptedWorkError("Stopped.", "Run the same command again; what it had written is whole.")
    if isinstance(error, OSError) and error.errno is not None:
        what, fix = OS_ERRORS.get(error.errno, (error.strerror or "The system refused", "Check the path."))
        place = concerned(error)
        place = f"{place[:_LONGEST_PLACE]}…" if len(place) > _LONGEST_PLACE else place
        return SilError(f"{what} ({place})." if place else f"{what}.", fix)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # Python's `resolve` before 3.13
        return as_sil_error(OSError(errno.ELOOP, "", str(error).partition("'")[2].rstrip("'")))
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return SilError(
            "Out of memory.",
            "Use smaller batches (--set train.identities, evaluate.batch or gallery.batch) or --device cpu.",
        )
    first = str(error).strip().splitlines()
    return SilError(
        f"Unexpected error: {type(error).__name__}{': ' + first[0] if first else ''}.",
        "Run again with --debug and report what it prints.",
    )


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            inner = _without_none(value)
            if inner:
                kept[key] = inner
        elif value is not None:
            kept[key] = value
    return kept
