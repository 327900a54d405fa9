"""`sil people merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import BY, GALLERY, PERSON, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
sil people merge 7 12
sil people merge Anna 12 31 --by ben
"""
OPTIONS = (
    PERSON,
    Option("others", metavar="PERSON...", help="Others who are the same person.", kind=list[str], required=True),
    BY,
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Merge people who are one and the same: all become the first."""
    settings = current.settings()
    from sil_cli.people.decisions import merge

    given = current.given
    result = merge(settings, given["person"], given["others"], by=given["by"])
    current.name_first(result.objections)
    current.next_command(f"{escape(result.label)} has {result.person.entries:,} entries now.")
    return result
