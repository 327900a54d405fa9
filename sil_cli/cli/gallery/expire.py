"""`sil gallery expire`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, GALLERY_ARGUMENT, STORE, Option

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import ExpireResult

EXAMPLES = """
sil gallery expire
sil gallery expire station --keep-days 14 --dry-run
"""
OPTIONS = (
    GALLERY_ARGUMENT,
    Option(
        "--keep-days", "gallery.keep_days", "DAYS", "Remove what was taken longer ago; default: as the gallery says."
    ),
    Option(
        "--keep-camera",
        "gallery.camera_keep_days",
        "CAMERA=DAYS",
        "The same for one camera; may be repeated.",
    ),
    Option("--dry-run", help="Only count."),
    GALLERY,
    STORE,
)


def run(current: Session) -> ExpireResult:
    """Remove what has been kept as long as the gallery may keep it, and delete every trace of it."""
    settings = current.settings()
    from sil_cli.gallery.accountability.commands import expire_gallery

    result = expire_gallery(settings, current.reporter, dry_run=bool(current.given["dry_run"]))
    verb = "would be removed" if result.dry_run else "removed"
    cut = f" {result.cut:,} lines were cut off its log." if result.cut else ""
    current.next_command(f"{result.expired:,} entries {verb}, {result.entries:,} in {result.gallery}.{cut}")
    return result
