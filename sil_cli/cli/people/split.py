"""`sil people split`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
[bold]Examples[/]

sil people split 7 1207 1210

sil people split Anna crops/c3/0815.jpg --by ben
"""
OPTIONS = (
    Option("person", metavar="PERSON", help="A person's number or name.", kind=str, required=True),
    Option(
        "entries",
        metavar="ENTRY...",
        help="Ids or paths of the entries that show somebody else, all the same.",
        kind=list[str],
        required=True,
    ),
    Option("--by", metavar="NAME", help="Who says so; default: whoever is logged in.", kind=str),
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Say that some entries of a person show somebody else."""
    settings = current.settings()
    from sil_cli.people.decisions import split
    from sil_cli.people.telling import login_name

    by = current.given["by"] if current.given["by"] is not None else login_name()
    result = split(settings, current.given["person"], current.given["entries"], by=by)
    current.next_command(f"{escape(result.label)} is a new person with {result.person.entries:,} entries.")
    return result
