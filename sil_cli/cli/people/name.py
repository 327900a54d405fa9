"""`sil people name`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, PERSON, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.decisions import PersonChange

EXAMPLES = """
sil people name 7 "Anna B."
sil people name "Anna B." Anna
sil people name 7 ""
"""
OPTIONS = (
    PERSON,
    Option("name", metavar="NAME", help="Their name; '' takes it back.", kind=str, required=True),
    GALLERY,
    STORE,
)


def run(current: Session) -> PersonChange:
    """Give a person a name, which stays with them."""
    settings = current.settings()
    from sil_cli.people.decisions import name

    result = name(settings, current.given["person"], current.given["name"])
    current.next_command(f"Person {result.person.id} is now {escape(result.person.name or 'without a name')}.")
    return result
