"""`sil doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.terminal import escape, print_facts

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.doctor import Report

EXAMPLES = """
sil doctor
sil doctor --json
"""
OPTIONS = ()
MARKS = {True: "[green]✓[/]", False: "[yellow]![/]"}


def run(current: Session) -> Report:
    """Print versions, device and threads, and what is missing."""
    settings = current.settings()
    from sil_cli.doctor import examine

    report = examine(settings)
    facts = {}
    for finding in report.findings:
        lines = [escape(line) for line in (finding.value, finding.fix) if line]
        facts[finding.what] = "\n".join([f"{MARKS[finding.good]} {lines[0]}", *(f"  {line}" for line in lines[1:])])
    print_facts(current.out, "sil doctor", facts)
    if report.problems:
        current.next_command(f"{report.problems} to look at; everything else is fine.")
    else:
        current.next_command("Everything is fine.", "sil prepare-data")
    return report
