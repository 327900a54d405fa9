"""`sil gallery repair`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, GALLERY_ARGUMENT, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import RepairResult

EXAMPLES = """
sil gallery repair
sil gallery repair station --trust
"""
OPTIONS = (
    GALLERY_ARGUMENT,
    GALLERY,
    Option("--trust", help="Accept well-formed files of vectors that were edited, as they are now."),
)


def run(current: Session) -> RepairResult:
    """Drop what is broken in a gallery, keep the rest, and say exactly what is lost and how to restore it."""
    settings = current.settings()
    from sil_cli.gallery.care import repair_gallery

    result = repair_gallery(settings, current.reporter, trust=bool(current.given["trust"]))
    for name, what in result.files.items():
        current.say(escape(f"{name}: {what}"))
    for path in result.set_aside:
        current.say(escape(f"Set aside: {path}"))
    if result.set_aside:
        current.reporter.note("The files set aside hold vectors; `sil gallery compact` deletes them.")
    current.name_first([f"Lost: {each.path} ({each.reason})" for each in result.lost])
    if result.index_rebuilt:
        current.say("The approximate index was damaged and has been rebuilt.")
    if result.database_mended:
        current.say("The database's own indexes were damaged and have been rebuilt.")
    changed = result.index_rebuilt or result.database_mended or result.files or result.set_aside or result.lost
    outcome = f"{len(result.lost):,} entries lost, " if changed else "Nothing was broken: "
    for again in result.again[1:]:
        current.say(f"  Also: {escape(again)}")
    current.next_command(
        f"{outcome}{result.entries:,} entries in {result.gallery}.", result.again[0] if result.again else None
    )
    return result
