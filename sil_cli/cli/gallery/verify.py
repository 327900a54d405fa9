"""`sil gallery verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sil_cli.cli.command import ENGINE, GALLERY, GALLERY_ARGUMENT, STORE
from sil_cli.cli.terminal import escape, print_facts

if TYPE_CHECKING:
    from sil_cli.cli.session import Session

EXAMPLES = """
sil gallery verify
sil gallery verify station --json
"""
OPTIONS = (GALLERY_ARGUMENT, GALLERY, STORE, ENGINE)


def run(current: Session) -> None:
    """Check a gallery: checksums, one vector per entry, a sample embedded again. Exits with 1 if it is damaged."""
    settings = current.settings()
    from sil_cli.gallery.care import verify_gallery

    result = verify_gallery(settings, current.reporter)
    facts = {"folder": escape(result.gallery)}
    for check in result.checks:
        mark = "–" if not check.done else "[green]✓[/]" if check.ok else "[red]✗[/]"
        facts[check.name] = f"{mark} {escape(check.found)}"
    print_facts(current.out, "Gallery", facts)
    current.finish(result)
    if not result.ok:
        current.reporter.warn(f"{result.gallery} is damaged; {'; '.join(result.advice)}.")
        raise typer.Exit(1)
