"""`sil gallery remove`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sil_cli.cli.command import FILTER, GALLERY, STORE, WHICH, Option
from sil_cli.errors import quoted

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import RemoveResult

EXAMPLES = """
sil gallery remove --identity p042
sil gallery remove --camera c3 --before 2024-05-01 --yes
sil gallery remove --path 'visitors/*' --glob --gallery station
"""
OPTIONS = (
    Option("--id", metavar="ID", help="This entry; may be repeated.", kind=list[int], panel=WHICH),
    Option(
        "--path",
        metavar="PATH",
        help="This path: below its source, as `query` shows it, from the working folder, or whole; may be repeated.",
        kind=list[str],
        panel=WHICH,
    ),
    Option("--glob", help="Paths are patterns such as 'visitors/*.jpg'; * also crosses /.", panel=WHICH),
    *FILTER,
    Option("--all", help="Everything.", panel=WHICH),
    Option("--yes", help="Don't ask."),
    GALLERY,
    STORE,
)


def run(current: Session) -> RemoveResult:
    """Remove entries; `sil gallery compact` then deletes every trace of them. An entry must meet all conditions."""
    settings = current.settings()
    given = current.given
    from sil_cli.gallery.care import remove_entries

    result = remove_entries(
        settings,
        current.reporter,
        paths=tuple(given["path"] or ()),
        ids=tuple(given["id"] or ()),
        everything=bool(given["all"]),
        glob=bool(given["glob"]),
        confirm=lambda count, total: bool(given["yes"]) or _agreed(current, count, total),
    )
    if result.verdicts:
        verdicts = "1 verdict" if result.verdicts == 1 else f"{result.verdicts:,} verdicts"
        current.say(f"What people said of them ({verdicts}) stays until `sil gallery compact` deletes it, too.")
    option = f" {quoted(result.gallery)}" if str(result.gallery) != "gallery" else ""
    current.next_command(
        f"{result.removed:,} entries removed, {result.entries:,} left in {result.gallery}.",
        f"sil gallery compact{option}" if result.removed else None,
    )
    return result


def _agreed(current: Session, count: int, total: int) -> bool:
    """Ask; without somebody to ask, refuse."""
    from sil_cli.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError(
            f"{count:,} of {total:,} entries would be removed, and there is nobody to ask.", "Add --yes to remove them."
        )
    current.messages.print(f"{count:,} of {total:,} entries will be removed. Continue? [y/N] ", end="", markup=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
