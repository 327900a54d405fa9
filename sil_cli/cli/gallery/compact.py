"""`sil gallery compact`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, GALLERY_ARGUMENT, STORE
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import CompactResult

EXAMPLES = """
sil gallery compact
sil gallery compact station
"""
OPTIONS = (GALLERY_ARGUMENT, GALLERY, STORE)


def run(current: Session) -> CompactResult:
    """Merge a gallery's files, and delete every trace of what was removed, and what `repair` set aside."""
    settings = current.settings()
    from sil_cli.gallery.care import compact_gallery

    result = compact_gallery(settings, current.reporter)
    sizes = ""
    if result.bytes_before is not None and result.bytes_after is not None:
        sizes = f"; from {result.bytes_before / 2**20:,.1f} to {result.bytes_after / 2**20:,.1f} MiB"
    if result.set_aside_deleted:
        files = "1 file" if result.set_aside_deleted == 1 else f"{result.set_aside_deleted:,} files"
        current.say(f"Deleted what had been set aside: {files}.")
    if result.verdicts_deleted:
        verdicts = "1 verdict" if result.verdicts_deleted == 1 else f"{result.verdicts_deleted:,} verdicts"
        current.say(f"Deleted what people had said of removed entries: {verdicts}.")
    for path in result.drawings_deleted:
        current.say(f"Deleted, as it showed somebody who has been removed: {escape(path)}")
    current.next_command(f"{result.gallery} holds {result.entries:,} entries{sizes}.")
    return result
