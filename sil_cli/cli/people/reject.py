"""`sil people reject`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import BY, GALLERY, PERSON, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
sil people reject 7 1207
sil people reject Anna crops/c3/0815.jpg
"""
OPTIONS = (
    PERSON,
    Option(
        "entries",
        metavar="ENTRY...",
        help="Ids or paths of entries that don't show them.",
        kind=list[str],
        required=True,
    ),
    BY,
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Say that entries don't show a person; the next `sil people find` looks for who they show."""
    settings = current.settings()
    from sil_cli.people.decisions import reject

    given = current.given
    result = reject(settings, given["person"], given["entries"], by=given["by"])
    current.name_first(result.objections)
    current.next_command(f"{escape(result.label)} has {result.person.entries:,} entries now.")
    return result
