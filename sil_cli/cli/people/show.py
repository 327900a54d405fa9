"""`sil people show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, PERSON, STORE, Option
from sil_cli.cli.terminal import escape, print_table, print_trail, time_writer

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.search.person import PersonResult

EXAMPLES = """
sil people show 7
sil people show "Anna B." --sheet anna.jpg --html anna.html --gallery station
"""
OPTIONS = (
    PERSON,
    Option("--sheet", "query.sheet", "FILE", "The contact sheet, or none; default: matches.jpg."),
    Option("--html", "query.html", "FILE", "Also write a self-contained page."),
    Option("--gap", "query.gap", "SECONDS", "Pause after which a new visit begins; default: 60."),
    Option("--timezone", "gallery.timezone", "ZONE", "The time zone of the times shown; default: UTC."),
    GALLERY,
    STORE,
)
LEAST = ("identity", "time", "camera")


def run(current: Session) -> PersonResult:
    """A person's entries and their path over cameras and time, as tables and as a contact sheet."""
    settings = current.settings()
    from sil_cli.search.person import show_person

    result = show_person(settings, current.reporter, current.given["person"])
    shown = time_writer(settings)
    columns = {
        "id": [str(one.id) for one in result.shown],
        "state": [str(one.state) for one in result.shown],
        "sure": [f"{one.confidence:.2f}" for one in result.shown],
        "identity": [escape(one.identity or "") for one in result.shown],
        "camera": [escape(one.camera or "") for one in result.shown],
        "time": [shown(one.time) for one in result.shown],
        "path": [escape(one.path) for one in result.shown],
    }
    title = escape(result.person.name or f"person {result.person.id}")
    print_table(current.out, title, columns, left=("state", "identity", "camera", "time", "path"), optional=LEAST)
    print_trail(current.out, result.trail, shown)
    if not result.shown:
        current.say("  No entry shows this person any more.")
    drawn = {"Contact sheet": result.sheet, "page": result.html}
    written = ", ".join(f"{what} in {path}" for what, path in drawn.items() if path is not None)
    if written:
        current.next_command(f"{written[0].upper()}{written[1:]}.")
    return result
