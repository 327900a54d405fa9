"""`sil people confirm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import BY, GALLERY, PERSON, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
sil people confirm 7
sil people confirm Anna 1207 1210
"""
OPTIONS = (
    PERSON,
    Option(
        "entries",
        metavar="[ENTRY]...",
        help="Ids or paths of entries that show them; default: all that are theirs now.",
        kind=list[str],
        required=False,
    ),
    BY,
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Confirm that entries show a person; they stay with that person."""
    settings = current.settings()
    from sil_cli.people.decisions import confirm

    given = current.given
    result = confirm(settings, given["person"], given["entries"] or [], by=given["by"])
    current.name_first(result.objections)
    current.next_command(
        f"{escape(result.label)}: {result.person.confirmed:,} of {result.person.entries:,} entries are confirmed."
    )
    return result
