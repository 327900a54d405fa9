"""`sil people confirm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
[bold]Examples[/]

sil people confirm 7

sil people confirm Anna 1207 1210
"""
OPTIONS = (
    Option("person", metavar="PERSON", help="A person's number or name.", kind=str, required=True),
    Option(
        "entries",
        metavar="[ENTRY]...",
        help="Ids or paths of entries that show them; default: all that are theirs now.",
        kind=list[str],
        required=False,
    ),
    Option("--by", metavar="NAME", help="Who says so; default: whoever is logged in.", kind=str),
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Say that entries show a person; they stay theirs."""
    settings = current.settings()
    from sil_cli.people.decisions import confirm
    from sil_cli.people.telling import login_name

    by = current.given["by"] if current.given["by"] is not None else login_name()
    result = confirm(settings, current.given["person"], current.given["entries"] or [], by=by)
    current.next_command(
        f"{escape(result.label)}: {result.person.confirmed:,} of {result.person.entries:,} entries are confirmed."
    )
    return result
