"""`sil gallery copy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import Option

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import CopyResult

EXAMPLES = """
sil gallery copy gallery milvus://db.example:19530/station
sil gallery copy milvus://db.example:19530/station backup
sil gallery copy station station.db
"""
WHERE = "A gallery's folder, milvus://HOST:PORT/COLLECTION, or a Milvus Lite file NAME.db."
OPTIONS = (
    Option("origin", metavar="FROM", help=WHERE, kind=str, required=True),
    Option("target", metavar="TO", help="The same; created if missing.", kind=str, required=True),
    Option("--gallery", "gallery.folder", "DIR", "The folder that keeps a collection's model; default: gallery."),
)


def run(current: Session) -> CopyResult:
    """Copy a gallery from one store to another; continues where it stopped, and checks what arrived."""
    settings = current.settings()
    from sil_cli.gallery.copying import copy_gallery

    result = copy_gallery(settings, current.given["origin"], current.given["target"], current.reporter)
    if result.verdicts:
        current.say(f"Verdicts of people copied: {result.verdicts:,}.")
    current.next_command(
        f"{result.copied:,} entries copied, {result.there:,} were there; {result.target} holds"
        f" {result.entries:,}, {result.checked:,} of them compared.",
        f"sil query IMAGE{result.option}",
    )
    return result
