"""`sil people list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape, print_table, time_writer

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.overview import PeopleList

EXAMPLES = """
sil people list
sil people list --all --gallery station --json
"""
TOP = 20
OPTIONS = (Option("--all", help="All of them, not only the first 20."), GALLERY, STORE)
LEAST = ("first", "rejected", "best", "last", "cameras", "confirmed")


def run(current: Session) -> PeopleList:
    """The people of a gallery: those with a name first, then those with the most entries."""
    settings = current.settings()
    from sil_cli.people.overview import list_people

    result = list_people(settings)
    shown = time_writer(settings)
    people = result.people if current.given["all"] else result.people[:TOP]
    columns = {
        "id": [str(one.id) for one in people],
        "name": [escape(one.name or "") for one in people],
        "entries": [f"{one.entries:,}" for one in people],
        "confirmed": [f"{one.confirmed:,}" if one.confirmed else "" for one in people],
        "rejected": [f"{one.rejected:,}" if one.rejected else "" for one in people],
        "sure": [f"{one.confidence:.2f}" for one in people],
        "cameras": [escape(", ".join(one.cameras)) for one in people],
        "first": [shown(one.first) for one in people],
        "last": [shown(one.last) for one in people],
        "best": ["" if one.best is None else str(one.best) for one in people],
    }
    print_table(current.out, "People", columns, left=("name", "cameras", "first", "last"), optional=LEAST)
    if len(result.people) > len(people):
        current.say(f"  … and {len(result.people) - len(people):,} more: --all shows them.")
    if not result.people:
        current.say("  Nobody yet: `sil people find` groups the entries.")
    elif result.nobody:
        current.say(f"  {result.nobody:,} entries belong to nobody yet: run `sil people find`.")
    return result
