"""`sil people split`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import BY, GALLERY, PERSON, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
sil people split 7 1207 1210
sil people split Anna crops/c3/0815.jpg --by ben
"""
OPTIONS = (
    PERSON,
    Option(
        "entries",
        metavar="ENTRY...",
        help="Ids or paths of the entries that show somebody else, one person in all.",
        kind=list[str],
        required=True,
    ),
    BY,
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Say that some entries of a person show somebody else."""
    settings = current.settings()
    from sil_cli.people.decisions import split

    given = current.given
    result = split(settings, given["person"], given["entries"], by=given["by"])
    current.name_first(result.objections)
    current.next_command(f"{escape(result.label)} is a new person with {result.person.entries:,} entries.")
    return result
