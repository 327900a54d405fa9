"""`sil gallery log`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, GALLERY_ARGUMENT, STORE, Option
from sil_cli.cli.terminal import escape, print_table

if TYPE_CHECKING:
    from typing import Any

    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import LogLine, LogResult

EXAMPLES = """
sil gallery log
sil gallery log station --all --json
sil gallery log --verify --known 6ac1e2b04c4bbf5b77e9a0f2bd0f3a0f6f6ed7cb9ab75d1af3d6e9f8a3a3c1de
"""
LAST = 20
_LONGEST = 48
OPTIONS = (
    GALLERY_ARGUMENT,
    Option("--verify", help="Check that every line is there as it was written."),
    Option("--known", metavar="HASH", help="A head printed earlier: it must still be in the log.", kind=str),
    Option("--all", help=f"Every line, not the last {LAST}."),
    GALLERY,
    STORE,
)


def run(current: Session) -> LogResult:
    """Show who searched, decided, removed and exported what. Ends with code 1 where lines are changed or missing."""
    settings = current.settings()
    from sil_cli.gallery.accountability.commands import gallery_log

    given = current.given
    verify = bool(given["verify"]) or given["known"] is not None
    result = gallery_log(settings, last=None if given["all"] else LAST, verify=verify, known=given["known"])
    if result.lines:
        print_table(
            current.out, f"Log of {escape(result.gallery)}", _columns(result.lines), left=("by", "event", "what")
        )
    else:
        current.say("Nothing was logged.")
    if result.problem is not None:
        current.reporter.warn(f"The log is not as it was written: {result.problem}.")
        current.is_complete = False
    elif verify:
        cut = f" {result.cut:,} before them were cut off after their time." if result.cut else ""
        current.next_command(f"All {result.total:,} lines are as they were written.{cut} Head: {result.head}")
    return result


def _columns(lines: list[LogLine]) -> dict[str, list[str]]:
    return {
        "line": [f"{line.number:,}" for line in lines],
        "time": [escape(line.time[:19].replace("T", " ")) for line in lines],
        "by": [escape(line.by) for line in lines],
        "event": [escape(line.event) for line in lines],
        "what": [escape(_in_short(line.details)) for line in lines],
    }


def _in_short(details: dict[str, Any]) -> str:
    """What a line says, as much of it as a table has room for."""
    searches = details.get("searches")
    if isinstance(searches, list):
        shown = sum(len(each.get("shown", ())) for each in searches if isinstance(each, dict))
        words = [str(details["purpose"])] if details.get("purpose") else []
        return ", ".join([*words, f"{len(searches)} searched, {shown} shown"])
    text = json.dumps({key: value for key, value in details.items() if value not in (None, [], {})}, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
