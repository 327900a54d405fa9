"""`sil people export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.people.overview import PeopleExport

EXAMPLES = """
sil people export people.csv
sil people export people.json --gallery station
"""
OPTIONS = (
    Option("out", metavar="FILE", help="A .csv or .json file.", kind=Path, required=True),
    GALLERY,
    STORE,
)


def run(current: Session) -> PeopleExport:
    """Write a table of all people's entries for other programs."""
    settings = current.settings()
    from sil_cli.people.overview import export_people

    result = export_people(settings, current.given["out"])
    current.next_command(f"{result.entries:,} entries of {result.people:,} people written to {escape(result.file)}.")
    return result
