"""`sil people verdicts`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, GALLERY_ARGUMENT, STORE, Option
from sil_cli.cli.terminal import escape, print_table

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.telling import JudgedEntry, VerdictsResult

EXAMPLES = """
sil people verdicts
sil people verdicts --out verdicts.csv
sil people verdicts station --add answers.csv
"""
OPTIONS = (
    GALLERY_ARGUMENT,
    GALLERY,
    STORE,
    Option("--out", metavar="FILE", help="Write all of them to a .csv table.", kind=Path),
    Option(
        "--add",
        metavar="FILE",
        help="First add those of a table with the columns first_path, second_path and answer.",
        kind=Path,
    ),
)
SHOWN = 20


def run(current: Session) -> VerdictsResult:
    """List what people said of a gallery's entries, where that contradicts itself, and read or write it as a table."""
    settings = current.settings()
    given = current.given
    from sil_cli.people.telling import list_verdicts

    result = list_verdicts(settings, add=given["add"], out=given["out"])
    latest = result.verdicts[-SHOWN:]
    if latest:
        print_table(
            current.out,
            f"Verdicts of {escape(result.gallery)}" + (" (the latest)" if len(latest) < len(result.verdicts) else ""),
            {
                "first": [_named(each.first) for each in latest],
                "second": [_named(each.second) for each in latest],
                "answer": [each.answer if each.counts else f"[dim]{each.answer} (superseded)[/]" for each in latest],
                "by": [escape(each.by) for each in latest],
                "at": [f"{each.at:%Y-%m-%d %H:%M}" for each in latest],
                "why": [escape(each.why) for each in latest],
            },
            left=("first", "second", "answer", "by", "at", "why"),
        )
    for line in result.left_out:
        current.reporter.warn(f"Left out, as the gallery has no such entry: {line}.")
    for line in result.contradictions:
        current.reporter.warn(f"These can't all be right: {line}.")
    if result.gone:
        current.reporter.note(f"{result.gone:,} are about entries that are gone; `sil gallery compact` deletes them.")
    added = "" if result.added is None else f"{result.added:,} added; "
    counting = ", ".join(f"{count:,} {answer}" for answer, count in result.counting.items())
    written = "" if result.out is None else f"; written to {result.out}"
    current.next_command(f"{added}{len(result.verdicts):,} verdicts; of these count {counting}{written}.")
    return result


def _named(entry: JudgedEntry) -> str:
    return escape(f"{entry.path} (gone)" if entry.id is None else f"{entry.id} {entry.path}")
