"""`sil people reject`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
[bold]Examples[/]

sil people reject 7 1207

sil people reject Anna crops/c3/0815.jpg
"""
OPTIONS = (
    Option("person", metavar="PERSON", help="A person's number or name.", kind=str, required=True),
    Option(
        "entries",
        metavar="ENTRY...",
        help="Ids or paths of entries that don't show them.",
        kind=list[str],
        required=True,
    ),
    Option("--by", metavar="NAME", help="Who says so; default: whoever is logged in.", kind=str),
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Say that entries don't show a person; the next `sil people find` looks for who they are."""
    settings = current.settings()
    from sil_cli.people.decisions import reject
    from sil_cli.people.telling import login_name

    by = current.given["by"] if current.given["by"] is not None else login_name()
    result = reject(settings, current.given["person"], current.given["entries"], by=by)
    current.next_command(f"{escape(result.label)} has {result.person.entries:,} entries now.")
    return result
