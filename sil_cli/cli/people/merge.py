"""`sil people merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
[bold]Examples[/]

sil people merge 7 12

sil people merge Anna 12 31 --by ben
"""
OPTIONS = (
    Option("person", metavar="PERSON", help="A person's number or name.", kind=str, required=True),
    Option("others", metavar="PERSON...", help="Who is the same person.", kind=list[str], required=True),
    Option("--by", metavar="NAME", help="Who says so; default: whoever is logged in.", kind=str),
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Say that some people are one: all become the first."""
    settings = current.settings()
    from sil_cli.people.decisions import merge
    from sil_cli.people.telling import login_name

    by = current.given["by"] if current.given["by"] is not None else login_name()
    result = merge(settings, current.given["person"], current.given["others"], by=by)
    current.next_command(f"{escape(result.label)} has {result.person.entries:,} entries now.")
    return result
