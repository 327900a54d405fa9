"""`sil doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.doctor import Finding

EXAMPLES = """
[bold]Examples[/]

sil doctor

sil doctor --json
"""
MARKS = {True: "[green]✓[/]", False: "[yellow]![/]"}


def command(
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print versions, device and threads, and what is missing."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({})
        from sil_cli.doctor import examine

        report = examine(settings)
        table = Table(title="sil doctor", title_justify="left", show_header=False)
        for finding in report.findings:
            table.add_row(MARKS[finding.good], finding.what, _told(finding))
        current.out.print(table)
        if report.problems:
            current.next_command(f"{report.problems} to look at; the rest is well.", None)
        else:
            current.next_command("All is well.", "sil prepare-data")
        current.finish(report)


def _told(finding: Finding) -> str:
    return "\n".join(escape(line) for line in (finding.value, finding.fix) if line)
