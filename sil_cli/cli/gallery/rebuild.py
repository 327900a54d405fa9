"""`sil gallery rebuild`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import ENGINE, GALLERY, GALLERY_ARGUMENT, STORE, Option

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import RebuildResult

EXAMPLES = """
sil gallery rebuild --model runs/002-ubs
sil gallery rebuild station --drop-missing
"""
OPTIONS = (
    GALLERY_ARGUMENT,
    GALLERY,
    STORE,
    Option("--model", "gallery.model", "RUN"),
    Option(
        "--drop-missing", help="Leave out entries whose images are missing; without this, the old gallery then stays."
    ),
    ENGINE,
)


def run(current: Session) -> RebuildResult:
    """Embed a gallery's images with another model, then replace the gallery in one step."""
    settings = current.settings()
    from sil_cli.gallery.rebuild import rebuild_gallery

    result = rebuild_gallery(settings, current.reporter, drop_missing=bool(current.given["drop_missing"]))
    current.name_first([f"Left out: {each.path} ({each.reason})" for each in result.dropped])
    current.next_command(
        f"{result.gallery} has {result.entries:,} entries of model {result.model[:12]},"
        f" which took the place of {result.old_model[:12]}."
    )
    return result
